# SPDX-License-Identifier: GPL-3.0-or-later
"""From the samples of all rounds to one table a case, and to JSON."""
import json
import platform
from statistics import median, quantiles


def spread(values):
    """The middle half of the rounds, in percent of the median."""
    if len(values) < 3 or not median(values):
        return None
    low, _, high = quantiles(values, n=4, method="inclusive")
    return 100 * (high - low) / median(values)


def ratio(samples, base):
    """Median of the ratios round by round: neighbours in time saw the same machine."""
    theirs = {sample["round"]: sample["figure"] for sample in base or [] if sample["figure"]}
    pairs = [sample["figure"] / theirs[sample["round"]] for sample in samples
             if sample["figure"] and sample["round"] in theirs]
    return median(pairs) if pairs else None


def middle(samples, key):
    values = [sample[key] for sample in samples if sample.get(key) is not None]
    return median(values) if values else None


def percentile(samples, share):
    """Of all rounds together, in microseconds; from the generator's histogram."""
    counts = {}
    for sample in samples:
        for cell, count in sample["latency"].items():
            counts[int(cell)] = counts.get(int(cell), 0) + count
    rank, seen = share * sum(counts.values()), 0
    for cell in sorted(counts):
        seen += counts[cell]
        if seen >= rank:
            return 2 ** ((cell + 0.5) / samples[0]["per_octave"])
    return None


def number(value, digits=3):
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, digits - len(str(int(abs(value)))))}f}"


def share(value):
    return "-" if value is None else f"{100 * value:.0f}%"


def wide(samples):
    value = spread([sample["figure"] for sample in samples if sample["figure"] is not None])
    return "-" if value is None else f"{value:.0f}%"


LOADS = [("proxy", "proxy_cpu"), ("load", "load_cpu"), ("stub", "stub_cpu"), ("others", "other_cpu")]


def shares(samples):
    return [share(middle(samples, key)) for _, key in LOADS]


def race_heads(case, base):
    more = ["MB with none", "start s"] if case.kind == "scale" else []
    return ["peer", f"CPU us/{case.unit}", "spread", f"x {base}",
            f"{case.unit}{'' if case.unit == 'MB' else 's'}/s", "p50 us", "p99 us", *(name for name, _ in LOADS), *more]


def race_row(samples, base, case):
    more = [number((middle(samples, "empty") or 0) / 1e6), number(middle(samples, "start_seconds"))]
    return [number(middle(samples, "figure")), wide(samples), number(ratio(samples, base)),
            *(number(middle(samples, key)) for key in ("per_second", "p50_us", "p99_us")), *shares(samples),
            *(more if case.kind == "scale" else [])]


def rate_heads(case, base):
    return ["peer", f"CPU us/{case.unit}", "spread", f"x {base}", "p50 us", "p99 us", "p99.9 us", "sessions",
            *(name for name, _ in LOADS)]


def rate_row(samples, base, _case):
    return [number(middle(samples, "figure")), wide(samples), number(ratio(samples, base)),
            *(number(percentile(samples, part)) for part in (0.5, 0.99, 0.999)),
            f"{sum(sample['units'] for sample in samples):,}", *shares(samples)]


def idle_heads(_case, base):
    return ["peer", "sessions", "bytes/session", f"x {base}", "kernel bytes/session", "MB with none",
            "CPU with none", "CPU with all"]


def idle_row(samples, base, _case):
    return [f"{middle(samples, 'sessions'):,.0f}", number(middle(samples, "figure")), number(ratio(samples, base)),
            number(middle(samples, "kernel")), number(middle(samples, "empty") / 1e6),
            *(f"{100 * middle(samples, key):.2f}%" for key in ("idle_none", "idle_all"))]


def storm_heads(case, base):
    return ["peer", "sessions", f"CPU us/{case.unit}", f"x {base}", "all back after s", "p50 ms", "p99 ms", "retries"]


def storm_row(samples, base, _case):
    return [f"{middle(samples, 'sessions'):,.0f}", number(middle(samples, "figure")), number(ratio(samples, base)),
            number(middle(samples, "seconds")), *(number(middle(samples, key) / 1000) for key in ("p50_us", "p99_us")),
            f"{middle(samples, 'retries'):,.0f}"]


SHAPES = {"race": (race_heads, race_row), "rate": (rate_heads, rate_row), "idle": (idle_heads, idle_row),
          "storm": (storm_heads, storm_row), "growth": (race_heads, race_row),
          "scale": (race_heads, race_row)}


def grid(rows):
    """Rows of text as a Markdown table; the first row is its head."""
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return ["| " + " | ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                              for i, (cell, width) in enumerate(zip(line, widths))) + " |" for line in rows]


def table(case, results, base):
    """results: peer name -> {samples, failures}. Text, also valid Markdown."""
    heads, row = SHAPES[case.kind]
    alone = case.kind in ("growth", "scale")  # each peer is compared with itself, in its smallest set-up
    rows, notes = [heads(case, "least" if alone else base)], []
    for peer, result in results.items():
        samples = result["samples"]
        if alone:
            base = next(name for name in results if name.split(",")[0] == peer.split(",")[0])
        if samples:
            rows.append([peer, *row(samples, results.get(base, {}).get("samples"), case)])
        else:
            rows.append([peer, "failed"] + ["-"] * (len(rows[0]) - 2))
        notes += [f"  {peer}: thrown away: {text}" for text in result["failures"]]
        if (helper := middle(samples, "helper_figure") or 0) > 0.05:
            notes.append(f"  {peer}: its auth server took {number(helper)} us/{case.unit} more")
        notes += [f"  {peer}: tried again: {sample['why']}" for sample in samples if sample.get("why")]
    return "\n".join([f"### {case.name}: {case.title}", "", *grid(rows), *([""] if notes else []), *notes, ""])


def machine():
    model = platform.machine()
    with open("/proc/cpuinfo") as file:
        lines = file.read().splitlines()
    for line in lines:
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    count = sum(line.startswith("processor") for line in lines)
    return f"{count} x {model}, Linux {platform.release().split('-')[0]}"


def save(path, about, everything):
    with open(path, "w") as file:
        json.dump({"about": about, "cases": everything}, file, indent=1)
        file.write("\n")
