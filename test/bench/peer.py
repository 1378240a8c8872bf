# SPDX-License-Identifier: GPL-3.0-or-later
"""What all peers share: what a proxy is started for, how it is started, and a running one."""
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from processes import Process, open_files, tree, wait_for_port, wait_for_workers

WORKERS = 2
BACKLOG = 4096


@dataclass(frozen=True)
class Setup:
    """What a proxy is started for."""
    front_tls: bool
    back_tls: bool
    certificate: str = "ecdsa"  # key type: ecdsa or rsa
    imap: bool = False          # a listener that knows the protocol, where the peer has one
    forwarded: bool = False     # the backend is told the client's address by a PROXY header
    names: int = 0              # certificates by server name, beside the usual one
    mappings: int = 0           # accounts in the mapping
    group: str = "X25519"

    @property
    def backend(self):
        """The stub's port."""
        if not self.imap:
            return "tls" if self.back_tls else "plain"
        return "imap-tls" if self.back_tls else "imap-forwarded" if self.forwarded else "imap"


@dataclass
class World:
    """What all peers share."""
    folder: Path
    certificates: object
    stub_ports: dict  # by name
    ports: object
    proxy_cpus: object
    tool_cpus: object
    postern: str
    auth: str         # the program that answers nginx's questions
    connections: int  # sessions a proxy must be able to hold; each takes two files


class Instance:
    """A running proxy. `helpers` work for it but are not part of it."""

    def __init__(self, port, process=None, helpers=(), steady=True):
        self.port, self.process, self.steady = port, process, steady
        self.helpers = list(helpers)
        self.pids = tree(process.pid) if process else []
        self.files = open_files(self.pids)

    @property
    def helper_pids(self):
        return [helper.pid for helper in self.helpers]

    def look_again(self):
        """Dovecot ends processes it does not need and starts them again; within a round nobody may."""
        if self.process and not self.steady:
            self.pids = tree(self.process.pid)

    def unchanged(self):
        """No worker died or was replaced: then the CPU clocks before and after can be compared."""
        return self.process is None or tree(self.process.pid) == self.pids

    def stop(self):
        for one in [self.process, *self.helpers]:
            if one:
                one.stop()


class Peer:
    name = ""
    program = ""
    version_flag = "-v"
    front_plain = True
    back_tls = True
    forwards = False    # can write a PROXY header
    many_names = False  # a certificate a server name
    speaks_imap = False
    steady = True
    processes = 1  # at least, once it has started
    suffix = "conf"

    def __init__(self, world):
        self.world = world

    def path(self):
        return shutil.which(self.program, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/sbin:/bin")

    def installed(self):
        return self.path() is not None

    def version(self):
        done = subprocess.run([self.path(), self.version_flag], capture_output=True, text=True)
        text = (done.stdout + done.stderr).strip()
        number = re.search(r"\d+\.\d+(\.\d+)*[-+~\w]*", text)
        return number.group(0) if number else text.splitlines()[0]

    def supports(self, setup):
        return ((setup.front_tls or self.front_plain) and (not setup.back_tls or self.back_tls)
                and (not setup.forwarded or self.forwards) and (not setup.names or self.many_names)
                and not setup.mappings)

    def configuration(self, setup, port, backend, folder):
        raise NotImplementedError

    def command(self, config):
        raise NotImplementedError

    def environment(self):
        return {}

    def helpers(self, setup, folder):
        return []

    def new_folder(self, port):
        folder = self.world.folder / f"{self.name}-{port}"
        folder.mkdir()
        folder.chmod(0o755)
        return folder

    def start(self, setup, **how):
        """`how`: passed on to configuration()."""
        port = self.world.ports.take()
        folder = self.new_folder(port)
        helpers = self.helpers(setup, folder)
        config = folder / f"config.{self.suffix}"
        backend = self.world.stub_ports[setup.backend]
        config.write_text(self.configuration(setup, port, backend, folder, **how))
        process = Process(self.command(config), folder / "log", cpus=self.world.proxy_cpus, env=self.environment())
        wait_for_port(process, port, patience=120 if setup.names or setup.mappings else 10)
        wait_for_workers(process, self.processes)
        return Instance(port, process, helpers, self.steady)
