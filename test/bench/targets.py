# SPDX-License-Identifier: GPL-3.0-or-later
"""What Postern must reach, and whether this run shows it."""
from report import grid, middle, number, percentile, ratio

POSTERN = "postern"
NOT_PEERS = (POSTERN, "direct", "haproxy-splice")


class Target:
    """judge(everything) gives (figure, what it is compared with), or None where the run cannot tell."""

    def __init__(self, what, limit, judge, strict=False):
        self.what, self.limit, self.judge, self.strict = what, limit, judge, strict


def samples_of(everything, case, peer):
    return everything.get(case, {}).get(peer, {}).get("samples") or []


def by_best(case):
    """CPU time or memory by that of the best peer."""
    def judge(everything):
        figures = {peer: middle(result["samples"], "figure") for peer, result in everything.get(case, {}).items()
                   if peer not in NOT_PEERS and result["samples"]}
        figures = {peer: figure for peer, figure in figures.items() if figure}
        mine = samples_of(everything, case, POSTERN)
        if not figures or not mine:
            return None
        best = min(figures, key=figures.get)
        return ratio(mine, samples_of(everything, case, best)), best
    return judge


def by_peer(case, peer):
    def judge(everything):
        figure = ratio(samples_of(everything, case, POSTERN), samples_of(everything, case, peer))
        return None if figure is None else (figure, peer)
    return judge


def latency(share, peer):
    """By the peer's. What each adds to a session without a proxy is said beside it: it can be less than nothing,
    because there it is the backend that shakes hands."""
    def judge(everything):
        mine, theirs, floor = (samples_of(everything, "login-latency", name) for name in (POSTERN, peer, "direct"))
        if not (mine and theirs and floor):
            return None
        ours, other, least = (percentile(samples, share) for samples in (mine, theirs, floor))
        return ours / other, f"{number(ours - least)} us added; {peer} {number(other - least)} us"
    return judge


def bytes_each(case):
    def judge(everything):
        mine = samples_of(everything, case, POSTERN)
        return (middle(mine, "figure") / 1024, "KiB") if mine else None
    return judge


def grown(case):
    def judge(everything):
        rows = [result["samples"] for name, result in everything.get(case, {}).items() if name.startswith(POSTERN)]
        if len(rows) < 2 or not rows[0] or not rows[-1]:
            return None
        return ratio(rows[-1], rows[0]), "the same with 10 live sessions"
    return judge


TARGETS = [
    Target("full handshake, ECDSA P-256", 0.6, by_best("handshake")),
    Target("full handshake, RSA-2048", 1.0, by_best("handshake-rsa")),
    Target("resumed handshake", 0.6, by_best("resumed")),
    Target("login session, by nginx mail", 0.6, by_peer("login", "nginx-mail")),
    Target("login session, by hitch", 1.0, by_peer("login", "hitch"), strict=True),
    Target("login latency, p50", 1.0, latency(0.5, "hitch"), strict=True),
    Target("login latency, p99", 1.0, latency(0.99, "hitch"), strict=True),
    Target("download per MB", 0.6, by_best("download")),
    Target("upload per MB", 0.6, by_best("upload")),
    Target("download per MB, TLS on both legs", 0.6, by_best("download-tls")),
    Target("upload per MB, TLS on both legs", 0.6, by_best("upload-tls")),
    Target("round trip, 1 session", 0.7, by_best("round-trip-1")),
    Target("round trip, 64 sessions", 0.7, by_best("round-trip-64")),
    Target("idle session, TLS client", 5.0, bytes_each("idle-10000")),
    Target("idle session, TLS on both legs", 8.0, bytes_each("idle-tls-10000")),
    Target("login session beside 10,000", 1.1, grown("growth-login"), strict=True),
    Target("round trip beside 10,000", 1.1, grown("growth-round-trip"), strict=True),
    Target("download beside 10,000", 1.1, grown("growth-download"), strict=True),
]


def table(everything):
    rows = [["target", "limit", "here", "against", "verdict"]]
    for target in TARGETS:
        limit = f"{'<' if target.strict else '<='} {target.limit}"
        found = target.judge(everything)
        if found is None or found[0] is None:
            rows.append([target.what, limit, "-", "-", "not measured"])
            continue
        met = found[0] < target.limit if target.strict else found[0] <= target.limit
        rows.append([target.what, limit, f"{found[0]:.2f}", found[1], "met" if met else "**missed**"])
    met = sum(row[-1] == "met" for row in rows)
    title = "### targets: CPU time or memory of Postern by that of the best peer, unless it says otherwise"
    return "\n".join([title, "", *grid(rows), "", f"{met} of {len(TARGETS)} met", ""])
