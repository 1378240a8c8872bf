# SPDX-License-Identifier: GPL-3.0-or-later
"""The same work with ever more of something in the configuration: certificates by server name, mapped accounts."""
import time
from dataclasses import replace

from bench import Load
from crowd import Named
from processes import pss_bytes


def measure(bench, case, field):
    """Every peer with every amount is a proxy of its own; all take turns. Returns label -> {samples, failures}."""
    results, stages = {}, []
    levels = case.levels if bench.mode.heavy else case.levels[:-1]
    if case.scale == "names":
        for level in levels:
            bench.certificates.many(level)  # no proxy's start shall wait for them
    try:
        for peer in field:
            for level in levels if case.admits(peer) else ():
                variant = replace(case, **{case.scale: level})
                if not peer.supports(variant.setup):
                    continue
                label = f"{peer.name}, {level:,}"
                results[label] = {"samples": [], "failures": []}
                began = time.monotonic()
                instance = peer.start(variant.setup)
                start = {"start_seconds": time.monotonic() - began, "empty": pss_bytes(instance.pids)}
                load = Load(bench, variant, instance.port)
                stages.append((Named(label), instance, load, start))
                answer = load.tell(f"open {case.sessions}")
                if answer["failed"]:
                    results[label]["failures"].append(f"opening: {answer['failure']}")
                    stages.pop()
                    load.stop()
                    instance.stop()
        bench.rounds_of(case, stages, results)
    finally:
        for _label, instance, load, _start in stages:
            load.stop()
            instance.stop()
    return results
