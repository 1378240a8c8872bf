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


def number(value, digits=3):
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, digits - len(str(int(value))))}f}"


def row(samples, base, case):
    def middle(key):
        values = [sample[key] for sample in samples if sample.get(key) is not None]
        return median(values) if values else None

    figures = [sample["figure"] for sample in samples if sample["figure"] is not None]
    if case.memory:
        return [f"{middle('sessions'):,.0f}", number(middle("figure")), number(ratio(samples, base)),
                number(middle("empty") / 1e6)]
    wide = spread(figures)
    return [number(middle("figure")), "-" if wide is None else f"{wide:.0f}%", number(ratio(samples, base)),
            number(middle("per_second")), number(middle("p50_us")), number(middle("p99_us")),
            *(f"{100 * middle(key):.0f}%" for key in ("proxy_cpu", "load_cpu", "stub_cpu", "other_cpu"))]


def heads(case, base):
    if case.memory:
        return ["peer", "sessions", "bytes/session", f"x {base}", "MB with none"]
    return ["peer", f"CPU us/{case.unit}", "spread", f"x {base}", f"{case.unit}{'' if case.unit == 'MB' else 's'}/s", "p50 us", "p99 us",
            "proxy", "load", "stub", "others"]


def table(case, results, base):
    """results: peer name -> {samples, failures}. Text, also valid Markdown."""
    rows = [heads(case, base)]
    notes = []
    for peer, result in results.items():
        samples = result["samples"]
        if samples:
            rows.append([peer, *row(samples, results.get(base, {}).get("samples"), case)])
        else:
            rows.append([peer, "failed"] + ["-"] * (len(rows[0]) - 2))
        notes += [f"  {peer}: a round was thrown away: {text}" for text in result["failures"]]
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    lines = ["| " + " | ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(line, widths))) + " |" for line in rows]
    return "\n".join([f"### {case.name}: {case.title}", "", *lines, *notes, ""])


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
