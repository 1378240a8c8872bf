# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxies that are compared. A peer is a class: which set-ups it can serve, its configuration, its command.

All get the same certificate files, two worker threads or processes, X25519 first, TLS 1.2 and 1.3, session
tickets, and otherwise their defaults. The client offers exactly one suite, so suites need no setting here.
"""
import os
import sys
from dataclasses import replace
from pathlib import Path

from certificates import NAME
from mailers import Dovecot, NginxMail
from peer import BACKLOG, WORKERS, Instance, Peer
from processes import Process, wait_for_port


class Postern(Peer):
    name = "postern"
    version_flag = "--version"
    suffix = "toml"
    forwards = True
    many_names = True
    speaks_imap = True

    def path(self):
        return self.world.postern

    def supports(self, setup):
        return True

    def certificates(self, setup):
        certificates = self.world.certificates
        usual = f"""[tls.certificate.bench]
cert = "{certificates.chain(setup.certificate)}"
key = "{certificates.key(setup.certificate)}"
default = true
"""
        more = [path for path in certificates.many(setup.names)] if setup.names else []
        return usual + "".join(f'[tls.certificate.{path.stem}]\ncert = "{path}"\nkey = "{path}"\n' for path in more)

    def configuration(self, setup, port, backend, folder, front_tls=None, own_groups=True):
        """A second one in front of the first serves as a client that knows more than the generator does."""
        (folder / "mapping").write_text("".join(f"u{n}@{NAME} stub\n" for n in range(setup.mappings)))
        protocol = "imap" if setup.imap else "smtp"
        groups = {"X25519": '"X25519", "SECP256R1"'}.get(setup.group, f'"{setup.group}"')
        tls = setup.front_tls if front_tls is None else front_tls
        return f"""
[server]
threads = {WORKERS}
max_connections = {self.world.connections}
max_connections_per_client = {self.world.connections}
log_level = "warn"
{self.certificates(setup)}
{"[tls.tickets]" if setup.group != "X25519" else ""}
{"enable = false" if setup.group != "X25519" else ""}
[listener.front]
protocol = "{protocol}"
bind = ["127.0.0.1:{port}"]
tls = "{"implicit" if tls else "plain"}"
[listener.front.socket]
backlog = {BACKLOG}
[listener.front.tls_options]
{f"groups = [{groups}]" if own_groups else ""}
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
forwarding = "{"proxy" if setup.forwarded else "none"}"
allow_plaintext_auth = true
[destination.stub.protocol.smtp]
port = {backend}
tls = "{"implicit" if setup.back_tls else "plain"}"
[destination.stub.protocol.imap]
port = {backend}
tls = "{"implicit" if setup.back_tls else "plain"}"
"""

    def command(self, config):
        return [self.path(), str(config)]

    def environment(self):
        return {"SSL_CERT_FILE": str(self.world.certificates.authority)}


class Haproxy(Peer):
    name = "haproxy"
    program = "haproxy"
    forwards = True
    many_names = True

    def configuration(self, setup, port, backend, folder):
        certificates = self.world.certificates
        more = f" crt {certificates.many(setup.names)[0].parent}" if setup.names else ""
        curves = "X25519:P-256" if setup.group == "X25519" else setup.group
        bind = f" ssl crt {certificates.pem(setup.certificate)}{more} curves {curves} ssl-min-ver TLSv1.2"
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
  bind 127.0.0.1:{port} backlog {BACKLOG}{bind if setup.front_tls else ""}
  default_backend stub
backend stub
  server stub 127.0.0.1:{backend}{server if setup.back_tls else ""}{" send-proxy-v2" if setup.forwarded else ""}
"""

    def command(self, config):
        return [self.path(), "-db", "-f", str(config)]


class HaproxySplice(Haproxy):
    """With splice(2), which an operator has to ask for and which needs two plain legs."""
    name = "haproxy-splice"

    def supports(self, setup):
        return not setup.front_tls and not setup.back_tls and not setup.imap

    def configuration(self, setup, port, backend, folder):
        # Its pipes count against the limit of open files.
        fewer = replace(self.world, connections=min(self.world.connections, 5000))
        text = Haproxy(fewer).configuration(setup, port, backend, folder)
        return text.replace("mode tcp", "mode tcp\n  option splice-request\n  option splice-response")


class Hitch(Peer):
    name = "hitch"
    processes = 1 + WORKERS
    program = "hitch"
    version_flag = "--version"
    front_plain = False
    back_tls = False
    forwards = True
    many_names = True

    def configuration(self, setup, port, backend, folder):
        more = f'pem-dir = "{self.world.certificates.many(setup.names)[0].parent}"' if setup.names else ""
        curves = "X25519:prime256v1" if setup.group == "X25519" else setup.group
        account = 'user = "nobody"\ngroup = "nogroup"\n' if os.geteuid() == 0 else ""  # it refuses to be root
        return f"""
frontend = "[127.0.0.1]:{port}"
backend = "[127.0.0.1]:{backend}"
pem-file = "{self.world.certificates.pem(setup.certificate)}"
workers = {WORKERS}
backlog = {BACKLOG}
daemon = off
quiet = on
tls-protos = TLSv1.2 TLSv1.3
ecdh-curve = "{curves}"
ocsp-dir = ""
write-proxy-v2 = {"on" if setup.forwarded else "off"}
{more}
{account}"""

    def command(self, config):
        return [self.path(), f"--config={config}"]


class Stunnel(Peer):
    """A thread a connection, always: it has no setting for two."""
    name = "stunnel"
    program = "stunnel4"
    version_flag = "-version"
    front_plain = False
    back_tls = False
    steady = False

    def configuration(self, setup, port, backend, folder):
        certificates = self.world.certificates
        return f"""
foreground = yes
debug = err
pid =
[front]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{backend}
cert = {certificates.chain(setup.certificate)}
key = {certificates.key(setup.certificate)}
curves = {"X25519:P-256" if setup.group == "X25519" else setup.group}
sslVersionMin = TLSv1.2
TIMEOUTidle = 36000
"""

    def command(self, config):
        return [self.path(), str(config)]


class Nginx(Peer):
    """Its stream module: opaque, like haproxy here."""
    name = "nginx"
    processes = 1 + WORKERS
    program = "nginx"
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

    def installed(self):
        return super().installed() and self.module.exists()

    def supports(self, setup):
        # Behind a login its mail module is the one to look at; that has no TLS toward the backend.
        return super().supports(setup) and (not setup.imap or setup.back_tls)

    def configuration(self, setup, port, backend, folder):
        certificates = self.world.certificates
        curves = "X25519:prime256v1" if setup.group == "X25519" else setup.group
        front = f"""ssl_certificate {certificates.chain(setup.certificate)};
    ssl_certificate_key {certificates.key(setup.certificate)};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ecdh_curve {curves};"""
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
    listen 127.0.0.1:{port} {"ssl " if setup.front_tls else ""}reuseport backlog={BACKLOG};
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
        return (not setup.back_tls and setup.certificate == "ecdsa" and not setup.forwarded and not setup.names
                and not setup.mappings)

    def start(self, setup):
        return Instance(self.world.stub_ports[replace(setup, back_tls=setup.front_tls).backend])


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


ALL = {peer.name: peer for peer in (Postern, Haproxy, HaproxySplice, Hitch, Stunnel, Nginx, NginxMail, Dovecot,
                                    Direct)}
