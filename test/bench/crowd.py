# SPDX-License-Identifier: GPL-3.0-or-later
"""Standing sessions by the thousand: what they cost while nothing happens, what a return of all costs, and whether
other work gets dearer beside them."""
import time
from dataclasses import replace

from bench import SMOKE_SESSIONS, Load
from cases import LEVELS, Case
from processes import cpu_seconds, kernel_bytes, pss_bytes

WATCHED = 2.0  # seconds of idleness whose CPU time is taken


def together(case):
    """Cases that can share one crowd have the same key."""
    if case.kind in ("idle", "storm"):
        return ("crowd", case.setup)
    return ("growth", case.setup) if case.kind == "growth" else case.name


class Crowd:
    def __init__(self, bench):
        self.bench = bench
        self.kernel_floor = {}  # sessions -> bytes of kernel memory each without a proxy

    def size(self, wanted):
        return min(SMOKE_SESSIONS, wanted) if self.bench.smoke else min(wanted, self.bench.most_sessions)

    # --- idle, and the storm ------------------------------------------------------------------------
    def gather(self, group, field):
        """group: cases of one crowd, smallest first. Returns case name -> peer name -> {samples, failures}."""
        group = sorted(group, key=lambda case: (case.kind == "storm", case.sessions))
        results = {case.name: {} for case in group}
        for peer in field:
            mine = [case for case in group if case.admits(peer)]
            if mine:
                self.one_peer(peer, mine, results)
        for case in group:
            if case.kind == "idle":
                self.share_of_kernel(results[case.name])
        return results

    def one_peer(self, peer, mine, results):
        instance = peer.start(mine[0].setup)
        load = Load(self.bench, replace(mine[0], verb="echo", kind="idle"), instance.port)
        try:
            time.sleep(self.bench.settle)
            instance.look_again()
            nothing = {"user": pss_bytes(instance.pids), "kernel": kernel_bytes(),
                       "rate": self.idle_rate(instance)}
            for case in mine:
                result = results[case.name][peer.name] = {"samples": [], "failures": []}
                work = self.weigh if case.kind == "idle" else self.storm
                sample = work(case, instance, load, nothing)
                if "failure" in sample:
                    result["failures"].append(sample["failure"])
                    return
                result["samples"].append({"round": 0} | sample)
        finally:
            load.stop()
            instance.stop()

    def idle_rate(self, instance):
        """CPU seconds a second."""
        before, began = cpu_seconds(instance.pids), time.monotonic()
        time.sleep(self.bench.settle * WATCHED / 2)
        return (cpu_seconds(instance.pids) - before) / (time.monotonic() - began)

    def weigh(self, case, instance, load, nothing):
        sessions = self.size(case.sessions)
        answer = load.tell(f"open {sessions}")
        if answer["failed"]:
            return {"failure": answer["failure"]}
        time.sleep(self.bench.settle)
        instance.look_again()
        user, kernel, rate = pss_bytes(instance.pids), kernel_bytes(), self.idle_rate(instance)
        after = load.tell("check")
        if after["failed"] or after["units"] != sessions:
            return {"failure": after["failure"] or "not all sessions were there"}
        return {"figure": (user - nothing["user"]) / sessions if instance.pids else None, "sessions": sessions,
                "kernel": None if kernel is None else (kernel - nothing["kernel"]) / sessions,
                "empty": nothing["user"], "full": user, "idle_none": nothing["rate"], "idle_all": rate}

    def share_of_kernel(self, results):
        """Two of a session's four sockets belong to generator and stub: what they need is known from `direct`."""
        for sample in results.pop("direct", {"samples": []})["samples"]:
            self.kernel_floor[sample["sessions"]] = sample["kernel"]
        for result in results.values():
            for sample in result["samples"]:
                floor = self.kernel_floor.get(sample["sessions"])
                both = sample["kernel"] is not None and floor is not None
                sample["kernel"] = sample["kernel"] - floor if both else None

    def storm(self, case, instance, load, _nothing):
        sessions = self.size(case.sessions)
        opened = load.tell(f"open {sessions}")
        if opened["failed"]:
            return {"failure": opened["failure"]}
        proxy, helpers = cpu_seconds(instance.pids), cpu_seconds(instance.helper_pids)
        load.begin("storm")
        time.sleep(0.05)
        self.bench.replace_stub()
        answer = load.answer()
        if answer["failed"] or answer["units"] != sessions:
            return {"failure": answer["failure"] or "not all sessions came back"}
        sample = {"figure": (cpu_seconds(instance.pids) - proxy) / sessions * 1e6 if instance.pids else None,
                  "sessions": sessions, "seconds": answer["seconds"], "p50_us": answer["p50_us"],
                  "p99_us": answer["p99_us"], "retries": answer["retries"], "why": answer["failure"]}
        if instance.helpers:
            sample["helper_figure"] = (cpu_seconds(instance.helper_pids) - helpers) / sessions * 1e6
        return sample

    # --- growth -------------------------------------------------------------------------------------
    def grow(self, group, field):
        """Three proxies of a peer, each with its crowd, take turns at the same work."""
        results = {case.name: {} for case in group}
        for peer in field:
            if group[0].admits(peer):
                self.grow_peer(group, peer, results)
        return results

    def grow_peer(self, group, peer, results):
        standing = Case("crowd", "", kind="growth", imap=True)
        stages, levels = [], [(f"{peer.name}, {level:,}", self.size(level)) for level in LEVELS]
        try:
            for label, sessions in levels:
                instance = peer.start(group[0].setup)
                crowd = Load(self.bench, standing, instance.port)
                stages.append((label, instance, crowd))
                answer = crowd.tell(f"open {sessions - 100 if sessions > 5000 else sessions}")
                if answer["failed"]:
                    results[group[0].name][label] = {"samples": [], "failures": [f"opening: {answer['failure']}"]}
                    return
            for case in group:
                self.grow_case(case, stages, results[case.name])
            for label, _instance, crowd in stages:
                after = crowd.tell("check")
                if after["failed"]:
                    results[group[-1].name][label]["failures"].append(f"the crowd: {after['failure']}")
        finally:
            for _label, instance, crowd in stages:
                crowd.stop()
                instance.stop()

    def grow_case(self, case, stages, results):
        field = []
        try:
            for label, instance, _crowd in stages:
                results[label] = {"samples": [], "failures": []}
                instance.files = float("inf")
                load = Load(self.bench, case, instance.port)
                field.append((Named(label), instance, load, {}))
                answer = load.tell(f"open {case.sessions}")
                if answer["failed"]:
                    results[label]["failures"].append(f"opening: {answer['failure']}")
                    return
            self.bench.rounds_of(case, field, results)
        finally:
            for _peer, _instance, load, _ in field:
                load.stop()


class Named:
    def __init__(self, name):
        self.name = name
