# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxies that are compared. A peer is a class: which set-ups it can serve, its configuration, its command.

All get the same certificate files, two worker threads or processes, X25519 first, TLS 1.2 and 1.3, session
tickets, and otherwise their defaults. The client offers exactly one suite, so suites need no setting here.
"""
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from certificates import NAME
from processes import Process, open_files, tree, wait_for_port

WORKERS = 2


@dataclass(frozen=True)
class Setup:
    """What a proxy is started for."""
    front_tls: bool
    back_tls: bool
    certificate: str  # key type: ecdsa or rsa


@dataclass
class World:
    """What all peers share."""
    folder: Path
    certificates: object
    stub_ports: dict  # plain and tls
    ports: object
    proxy_cpus: object
    postern: str
    connections: int  # sessions a proxy must be able to hold; each takes two files


class Instance:
    """A running proxy."""

    def __init__(self, port, process=None):
        self.port, self.process = port, process
        self.pids = tree(process.pid) if process else []
        self.files = open_files(self.pids)

    def unchanged(self):
        """No worker died or was replaced: then the CPU clocks before and after can be compared."""
        return self.process is None or tree(self.process.pid) == self.pids

    def stop(self):
        if self.process:
            self.process.stop()


class Peer:
    name = ""
    program = ""
    version_flag = "-v"
    front_plain = True
    back_tls = True
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
        number = re.search(r"\d+\.\d+(\.\d+)?[-+~\w]*", text)
        return number.group(0) if number else text.splitlines()[0]

    def supports(self, setup):
        return (setup.front_tls or self.front_plain) and (not setup.back_tls or self.back_tls)

    def configuration(self, setup, port, backend, folder):
        raise NotImplementedError

    def command(self, config):
        raise NotImplementedError

    def environment(self):
        return {}

    def start(self, setup):
        port = self.world.ports.take()
        folder = self.world.folder / f"{self.name}-{port}"
        folder.mkdir()
        folder.chmod(0o755)
        backend = self.world.stub_ports["tls" if setup.back_tls else "plain"]
        config = folder / f"config.{self.suffix}"
        config.write_text(self.configuration(setup, port, backend, folder))
        process = Process(self.command(config), folder / "log", cpus=self.world.proxy_cpus, env=self.environment())
        wait_for_port(process, port)
        return Instance(port, process)


class Postern(Peer):
    name = "postern"
    version_flag = "--version"
    suffix = "toml"

    def path(self):
        return self.world.postern

    def configuration(self, setup, port, backend, folder):
        (folder / "mapping").write_text("")
        certificates = self.world.certificates
        leg = f'port = {backend}\ntls = "{"implicit" if setup.back_tls else "plain"}"'
        return f"""
[server]
threads = {WORKERS}
max_connections = {self.world.connections}
log_level = "warn"
[tls.certificate.bench]
cert = "{certificates.chain(setup.certificate)}"
key = "{certificates.key(setup.certificate)}"
default = true
[listener.front]
protocol = "smtp"
bind = ["127.0.0.1:{port}"]
tls = "{"implicit" if setup.front_tls else "plain"}"
[listener.front.tls_options]
groups = ["X25519", "SECP256R1"]
[mapping]
source = "file"
[mapping.file]
path = "{folder / "mapping"}"
[routing]
default_destination = "stub"
smtp_passthrough_destination = "stub"
[destination.stub]
host = "127.0.0.1"
tls_server_name = "{NAME}"
forwarding = "none"
[destination.stub.protocol.smtp]
{leg}
"""

    def command(self, config):
        return [self.path(), str(config)]

    def environment(self):
        return {"SSL_CERT_FILE": str(self.world.certificates.authority)}


class Haproxy(Peer):
    name = "haproxy"
    program = "haproxy"

    def configuration(self, setup, port, backend, folder):
        certificates = self.world.certificates
        bind = f" ssl crt {certificates.pem(setup.certificate)} curves X25519:P-256 ssl-min-ver TLSv1.2"
        server = f" ssl verify required ca-file {certificates.authority} sni str({NAME}) verifyhost {NAME}"
        return f"""
global
  nbthread {WORKERS}
  maxconn {self.world.connections}
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
frontend front
  bind 127.0.0.1:{port}{bind if setup.front_tls else ""}
  default_backend stub
backend stub
  server stub 127.0.0.1:{backend}{server if setup.back_tls else ""}
"""

    def command(self, config):
        return [self.path(), "-db", "-f", str(config)]


class HaproxySplice(Haproxy):
    """With splice(2), which an operator has to ask for and which needs two plain legs."""
    name = "haproxy-splice"

    def supports(self, setup):
        return not setup.front_tls and not setup.back_tls

    def configuration(self, setup, port, backend, folder):
        # Its pipes count against the limit of open files.
        fewer = replace(self.world, connections=min(self.world.connections, 5000))
        text = Haproxy(fewer).configuration(setup, port, backend, folder)
        return text.replace("mode tcp", "mode tcp\n  option splice-request\n  option splice-response")


class Hitch(Peer):
    name = "hitch"
    program = "hitch"
    version_flag = "--version"
    front_plain = False
    back_tls = False

    def configuration(self, setup, port, backend, folder):
        account = 'user = "nobody"\ngroup = "nogroup"\n' if os.geteuid() == 0 else ""  # it refuses to be root
        return f"""
frontend = "[127.0.0.1]:{port}"
backend = "[127.0.0.1]:{backend}"
pem-file = "{self.world.certificates.pem(setup.certificate)}"
workers = {WORKERS}
backlog = 1024
daemon = off
quiet = on
tls-protos = TLSv1.2 TLSv1.3
ecdh-curve = "X25519:prime256v1"
ocsp-dir = ""
{account}"""

    def command(self, config):
        return [self.path(), f"--config={config}"]


class Nginx(Peer):
    name = "nginx"
    program = "nginx"
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

    def installed(self):
        return super().installed() and self.module.exists()

    def configuration(self, setup, port, backend, folder):
        certificates = self.world.certificates
        front = f"""ssl_certificate {certificates.chain(setup.certificate)};
    ssl_certificate_key {certificates.key(setup.certificate)};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ecdh_curve X25519:prime256v1;"""
        back = f"""proxy_ssl on;
    proxy_ssl_protocols TLSv1.2 TLSv1.3;
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {certificates.authority};
    proxy_ssl_name {NAME};
    proxy_ssl_server_name on;"""
        return f"""
load_module {self.module};
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes {WORKERS};
events {{ worker_connections {2 * self.world.connections}; }}
stream {{
  server {{
    listen 127.0.0.1:{port} {"ssl " if setup.front_tls else ""}reuseport backlog=1024;
    proxy_pass 127.0.0.1:{backend};
    proxy_timeout 1h;
    {front if setup.front_tls else ""}
    {back if setup.back_tls else ""}
  }}
}}
"""

    def command(self, config):
        return [self.path(), "-c", str(config), "-p", str(config.parent)]


class Direct(Peer):
    """No proxy: the floor, and the proof that generator and stub can do more than any peer."""
    name = "direct"

    def installed(self):
        return True

    def version(self):
        return "client to stub"

    def supports(self, setup):
        return not setup.back_tls and setup.certificate == "ecdsa"

    def start(self, setup):
        return Instance(self.world.stub_ports["tls" if setup.front_tls else "plain"])


class Spoiler(Peer):
    """A relay that spoils one byte, or one session: only for the proof that the benchmark notices."""
    def __init__(self, world, fault, direction):
        super().__init__(world)
        self.name, self.fault, self.direction = f"spoiler-{fault}-{direction}", fault, direction

    def start(self, setup):
        port = self.world.ports.take()
        process = Process([sys.executable, str(Path(__file__).parent / "spoiler.py"), str(port),
                           str(self.world.stub_ports["plain"]), self.fault, self.direction],
                          self.world.folder / f"{self.name}.log")
        wait_for_port(process, port)
        return Instance(port, process)


ALL = {peer.name: peer for peer in (Postern, Haproxy, HaproxySplice, Hitch, Nginx, Direct)}
