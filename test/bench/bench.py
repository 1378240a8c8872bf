# SPDX-License-Identifier: GPL-3.0-or-later
"""The machinery of a run: stub, generators, proxies; and rounds of work that go through all peers in turn."""
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, replace

import cases
import peers
from certificates import Certificates
from peer import World
from processes import (BenchError, PortPool, Process, cpu_seconds, machine_busy_seconds, open_files,
                       raise_file_limit)


@dataclass(frozen=True)
class Mode:
    rounds: int          # at most
    fewest: int          # rounds, if time runs short
    seconds: float       # of one round of one peer
    warm_up: float
    settle: float        # before memory is looked at
    budget: float        # seconds for all of it; rounds are fewer where it would not do
    limit: int           # seconds after which a run is stopped
    heavy: bool = False


MODES = {"full": Mode(9, 3, 0.35, 0.1, 1.0, 430, 900, True), "quick": Mode(3, 2, 0.1, 0.02, 0.3, 70, 240),
         "smoke": Mode(1, 1, 0.03, 0, 0.05, 20, 90)}
SMOKE_SESSIONS = 40
LEFT_BEHIND = 20  # files a proxy may keep open beyond those it had at the start
PROGRAMS = ("bench_load", "bench_stub", "bench_auth", "bench_certificates")


class Load:
    """The generator in front of one port. Commands are its standard input."""

    def __init__(self, bench, case, port):
        program = bench.programs["bench_load"]
        self.process = Process([program, *case.load_options(port, bench.certificates)],
                               bench.folder / "load.log", cpus=bench.tool_cpus, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)

    def tell(self, command):
        self.begin(command)
        return self.answer()

    def begin(self, command):
        try:
            self.process.popen.stdin.write(command.encode() + b"\n")
            self.process.popen.stdin.flush()
        except BrokenPipeError:
            raise BenchError(f"the generator ended:\n{self.process.messages()}") from None

    def answer(self):
        try:
            return json.loads(self.process.popen.stdout.readline())
        except ValueError:
            raise BenchError(f"the generator ended:\n{self.process.messages()}") from None

    def stop(self):
        self.process.popen.stdin.close()
        self.process.stop()


class Bench:
    def __init__(self, programs, postern, folder, mode, rounds=None, seconds=None, profile=None):
        self.mode = MODES[mode]
        self.began = time.monotonic()
        self.fixed = bool(rounds or seconds)
        self.rounds = rounds or self.mode.rounds
        self.seconds = seconds or self.mode.seconds
        self.warm_up, self.settle = self.mode.warm_up, self.mode.settle
        self.smoke = mode == "smoke"
        self.folder = folder
        self.programs = programs
        # A proxy needs two files a session; what else it opens fits into the rest.
        self.most_sessions = min(15000, (raise_file_limit() - 300) // 2)
        self.certificates = Certificates(folder, programs["bench_certificates"])
        # With cores to spare the proxy has two for itself; with fewer, pinning would only starve someone.
        cores = sorted(os.sched_getaffinity(0))
        self.tool_cpus = cores[2:] if len(cores) >= 4 else None
        self.proxy_cpus = cores[:2] if len(cores) >= 4 else None
        self.stub_messages = ""
        self.stub, stub_ports = self.start_stub(["0"] * 5)
        self.world = World(folder, self.certificates, stub_ports, PortPool(), self.proxy_cpus, self.tool_cpus,
                           postern, programs["bench_auth"], self.most_sessions)
        self.instances = {}
        self.profile = profile
        self.hybrid = self.knows_group(cases.HYBRID)

    def start_stub(self, ports):
        stub = Process([self.programs["bench_stub"], str(self.certificates.pem("ecdsa")), "2", *map(str, ports)],
                       self.folder / "stub.log", cpus=self.tool_cpus, stdout=subprocess.PIPE)
        answer = json.loads(stub.popen.stdout.readline() or "{}")
        if not answer:
            raise BenchError(f"the stub did not start:\n{stub.messages()}")
        return stub, answer

    def replace_stub(self):
        """The new one listens before the old one is gone, so that only sessions are lost."""
        old = self.stub
        self.stub, _ = self.start_stub(self.world.stub_ports.values())
        old.popen.kill()
        old.popen.wait()

    def knows_group(self, group):
        done = subprocess.run([self.programs["bench_load"], "--tls", "1.3", "--group", group],
                              stdin=subprocess.DEVNULL, capture_output=True)
        return done.returncode == 0

    def instance(self, peer, setup):
        if (peer.name, setup) not in self.instances:
            self.instances[peer.name, setup] = peer.start(setup)
        return self.instances[peer.name, setup]

    def stop(self):
        for instance in self.instances.values():
            instance.stop()
        self.stub.stop()

    def plan(self, peers_left):
        """As many rounds as the time left allows, with so many peers in all the cases still to come."""
        if self.fixed:
            return
        spent, around = time.monotonic() - self.began, 0.2 + self.warm_up  # a peer's start, and opening
        each = (self.mode.budget - spent) / max(1, peers_left) - around
        self.rounds = max(self.mode.fewest, min(self.mode.rounds, int(each / (self.seconds + 0.025))))

    # --- rounds -------------------------------------------------------------------------------------
    def race(self, case, contenders):
        """contenders: Peer objects. Returns peer name -> {samples, failures}."""
        results = {peer.name: {"samples": [], "failures": []} for peer in contenders}
        field = []
        translator = None
        try:
            for peer in contenders:
                instance = self.instance(peer, case.setup)
                seen, port = case, instance.port
                if case.group == cases.HYBRID and not self.hybrid:
                    # The generator's library is too old. Another Postern stands in front, takes plain sessions and
                    # shakes hands as a client: the one behind accepts nothing but this group, and no ticket.
                    backend = replace(case.setup, back_tls=True, group="X25519")
                    translator = TranslatingPeer(self.world, instance.port).start(backend)
                    seen, port = replace(case, tls=""), translator.port
                load = Load(self, seen, port)
                answer = load.tell(f"open {case.sessions}")
                if not answer["failed"]:
                    field.append((peer, instance, load, {}))
                    continue
                results[peer.name]["failures"].append(f"opening: {answer['failure']}")
                load.stop()
            self.rounds_of(case, field, results)
        finally:
            for _peer, _instance, load, _ in field:
                load.stop()
            if translator:
                translator.stop()
        return results

    def rounds_of(self, case, field, results):
        for peer, instance, load, _ in field:
            if self.warm_up:
                load.tell(self.work(case, self.warm_up))
            if self.profile:
                self.look_inside(case, peer, instance, load)
        for number in range(self.rounds):
            shift = number % max(1, len(field))
            for peer, instance, load, about in field[shift:] + field[:shift]:
                sample = self.one_round(case, instance, load)
                sample["round"] = number
                if sample.get("failure"):
                    results[peer.name]["failures"].append(sample["failure"])
                else:
                    results[peer.name]["samples"].append(sample | about)
        for peer, instance, load, _ in [] if case.standing else field:
            left = open_files(instance.pids) - instance.files
            if left > LEFT_BEHIND and instance.steady:
                results[peer.name]["failures"].append(f"{left} files are still open after the last session")

    def work(self, case, seconds):
        if case.kind != "rate":
            return f"run {seconds}"
        return f"rate {seconds if self.smoke else 4 * seconds} {case.rate}"

    def one_round(self, case, instance, load):
        def clocks():
            time.sleep(0.01)  # let sessions that just ended be cleared away
            return (cpu_seconds(instance.pids), cpu_seconds([load.process.pid]), cpu_seconds([self.stub.pid]),
                    cpu_seconds(instance.helper_pids), machine_busy_seconds(), time.monotonic())

        instance.look_again()
        before = clocks()
        answer = load.tell(self.work(case, self.seconds))
        proxy, generator, stub, helpers, busy, wall = (b - a for a, b in zip(before, clocks()))
        units = case.units(answer)
        if answer["failed"]:
            return {"failure": f"{answer['failed']} sessions failed: {answer['failure']}"}
        if not units:
            return {"failure": "nothing was done"}
        if not instance.unchanged():
            return {"failure": "a process of the proxy came or went"}
        sample = {"figure": proxy / units * 1e6 if instance.pids else None, "units": units,
                  "per_second": units / answer["seconds"], "p50_us": answer["p50_us"], "p99_us": answer["p99_us"],
                  "proxy_cpu": proxy / wall, "load_cpu": generator / wall, "stub_cpu": stub / wall,
                  "other_cpu": max(0.0, (busy - proxy - generator - stub - helpers) / wall)}
        if instance.helpers:
            sample["helper_figure"] = helpers / units * 1e6
        if case.kind == "rate":
            sample |= {"latency": answer["latency"], "per_octave": answer["per_octave"]}
        return sample

    def look_inside(self, case, peer, instance, load):
        """Five seconds of the same work under perf: FOLDER/CASE-PEER.txt, hottest symbols first."""
        if not instance.pids:
            return
        self.profile.mkdir(parents=True, exist_ok=True)
        data = self.folder / "perf.data"
        perf = Process(["perf", "record", "-q", "-g", "-e", "cpu-clock", "-F", "1999", "-o", str(data), "-p",
                        ",".join(map(str, instance.pids))], self.folder / "perf.log")
        time.sleep(0.3)
        load.tell("run 5")
        perf.popen.send_signal(signal.SIGINT)
        perf.popen.wait()
        if not data.exists():
            raise BenchError(f"perf recorded nothing:\n{perf.messages()}")
        with open(self.profile / f"{case.name}-{peer.name}.txt", "w") as file:
            for fields in ("overhead,dso", "overhead,dso,symbol"):
                done = subprocess.run(["perf", "report", "-i", str(data), "--stdio", "--no-children", "-g", "none",
                                       "--percent-limit", "0.3", "-F", fields], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, text=True)
                file.writelines(line.rstrip() + "\n" for line in done.stdout.splitlines())


class TranslatingPeer(peers.Postern):
    """Plain sessions in, TLS with the groups Postern offers as a client out."""
    name = "translator"

    def __init__(self, world, port):
        super().__init__(replace(world, stub_ports={**world.stub_ports, "tls": port}))

    def configuration(self, setup, port, backend, folder):
        return super().configuration(setup, port, backend, folder, front_tls=False, own_groups=False)
