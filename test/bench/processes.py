# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes the benchmark starts, and what the kernel says of them: CPU time and memory of a whole tree."""
import ctypes
import os
import resource
import signal
import subprocess
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
TICK = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The benchmark itself cannot go on; the text says why."""


def raise_file_limit(wanted=65536):
    """As many open files as we may have; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in ((wanted, max(hard, wanted)), (min(wanted, hard), hard)):
        try:
            if limit[0] > soft or limit[1] > hard:
                resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Process:
    """A child that dies with us and writes its messages to a file."""

    def __init__(self, command, log, cpus=None, env=None, **pipes):
        self.log = log
        self.command = command

        def prepare():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if cpus:
                os.sched_setaffinity(0, cpus)

        out = open(log, "ab")
        pipes.setdefault("stdout", out)
        pipes.setdefault("stdin", subprocess.DEVNULL)
        self.popen = subprocess.Popen(command, stderr=out, preexec_fn=prepare,
                                      env={**os.environ, **(env or {})}, **pipes)
        out.close()
        self.pid = self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def messages(self, limit=2000):
        with open(self.log, "r", errors="replace") as file:
            return file.read()[-limit:].strip()

    def stop(self):
        members = tree(self.pid)
        if self.alive():
            self.popen.terminate()
        try:
            self.popen.wait(0.3)
        except subprocess.TimeoutExpired:
            pass
        for pid in members:  # workers that outlive their master, or a drain that takes its time
            if pid != self.pid or self.alive():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.popen.wait()


def tree(pid):
    """The process and all its descendants."""
    found, open_ends = [], [pid]
    while open_ends:
        one = open_ends.pop()
        try:
            tasks = os.listdir(f"/proc/{one}/task")
        except FileNotFoundError:
            continue
        found.append(one)
        for task in tasks:
            try:
                with open(f"/proc/{one}/task/{task}/children") as file:
                    open_ends += [int(child) for child in file.read().split()]
            except FileNotFoundError:
                pass
    return sorted(found)


def ticks(pid):
    """utime + stime in seconds, as /proc/PID/stat rounds them."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def cpu_seconds(pids):
    """utime + stime of all, ended threads included: the process's CPU clock is the same sum as in
    /proc/PID/stat without the rounding to 10 ms (clock ids are made as in clock_getcpuclockid(3))."""
    total = 0.0
    for pid in pids:
        try:
            total += time.clock_gettime((~pid << 3) | 2)
        except OSError:
            total += ticks(pid)
    return total


def machine_busy_seconds():
    """CPU time all processes of the machine have used."""
    with open("/proc/stat") as file:
        values = [int(word) for word in file.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = values
    return (user + nice + system + irq + softirq + steal) / TICK


def pss_bytes(pids):
    """User-space memory: pages shared between processes count once."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


# What the kernel keeps for a socket and for whoever waits at it.
SLABS = ("TCP", "sock_inode_cache", "filp", "eventpoll_epi", "eventpoll_pwq", "skbuff_head_cache",
         "skbuff_small_head", "tcp_bind_bucket", "tcp_bind2_bucket")


def kernel_bytes():
    """Kernel memory for sockets of the whole machine, or None: only root may know. Of the dentries, most of which
    are files somebody looked at, one a socket counts."""
    try:
        with open("/proc/slabinfo") as file:
            rows = [line.split() for line in file]
    except OSError:
        return None
    slabs = {row[0]: (int(row[1]), int(row[3])) for row in rows if row[1:2] and row[1].isdigit()}
    sockets, dentry = slabs.get("sock_inode_cache", (0, 0))[0], slabs.get("dentry", (0, 192))[1]
    return sum(slabs[name][0] * slabs[name][1] for name in SLABS if name in slabs) + sockets * dentry


def open_files(pids):
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def listening(port):
    """Looks without connecting, so that no peer sees a session that is none."""
    wanted = f":{port:04X}"
    with open("/proc/net/tcp") as file:
        next(file)
        for line in file:
            fields = line.split()
            if fields[3] == "0A" and fields[1].endswith(wanted):
                return True
    return False


def wait_for_port(process, port, patience=10.0):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if not process.alive():
            raise BenchError(f"{process.command[0]} ended at once:\n{process.messages()}")
        if listening(port):
            return
        time.sleep(0.02)
    raise BenchError(f"{process.command[0]} does not listen on {port}:\n{process.messages()}")


def wait_for_workers(process, count, patience=30.0):
    """A master listens before it has its workers; CPU time is only whole when all are known."""
    end = time.monotonic() + patience
    while len(tree(process.pid)) < count:
        if not process.alive() or time.monotonic() > end:
            raise BenchError(f"{process.command[0]} has not {count} processes:\n{process.messages()}")
        time.sleep(0.02)


class PortPool:
    """Ports below the ephemeral range, where no connection of the benchmark can sit."""

    def __init__(self, first=20100, last=29900):
        self.next, self.last = first + os.getpid() % 4000, last

    def take(self):
        while self.next < self.last:
            self.next += 1
            if not listening(self.next):
                return self.next
        raise BenchError("no free port")
