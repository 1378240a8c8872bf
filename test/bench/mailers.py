# SPDX-License-Identifier: GPL-3.0-or-later
"""The peers that know IMAP, as Postern does: they take the login, and repeat it to the backend."""
import os
from pathlib import Path

from certificates import NAME
from peer import BACKLOG, WORKERS, Peer
from processes import Process, wait_for_port


class NginxMail(Peer):
    """Asks an HTTP server for every login; ours says yes to all. Its CPU time is shown, not counted."""
    name = "nginx-mail"
    processes = 1 + WORKERS
    program = "nginx"
    module = Path("/usr/lib/nginx/modules/ngx_mail_module.so")
    front_plain = False
    back_tls = False  # the module has none
    forwards = True
    speaks_imap = True

    def installed(self):
        return super().installed() and self.module.exists()

    def supports(self, setup):
        return super().supports(setup) and setup.imap and setup.group == "X25519"

    def helpers(self, setup, folder):
        self.auth_port = self.world.ports.take()
        backend = self.world.stub_ports[setup.backend]
        process = Process([self.world.auth, str(self.auth_port), str(backend)], folder / "auth.log",
                          cpus=self.world.tool_cpus)
        wait_for_port(process, self.auth_port)
        return [process]

    def configuration(self, setup, port, backend, folder):
        certificates = self.world.certificates
        return f"""
load_module {self.module};
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes {WORKERS};
events {{ worker_connections {3 * self.world.connections}; }}
mail {{
  server_name {NAME};
  auth_http 127.0.0.1:{self.auth_port}/;
  imap_capabilities IMAP4rev1 SASL-IR LITERAL+;
  server {{
    listen 127.0.0.1:{port} ssl backlog={BACKLOG};
    protocol imap;
    proxy_protocol {"on" if setup.forwarded else "off"};
    proxy_timeout 1h;
    timeout 10m;
    ssl_certificate {certificates.chain(setup.certificate)};
    ssl_certificate_key {certificates.key(setup.certificate)};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ecdh_curve X25519:prime256v1;
  }}
}}
"""

    def command(self, config):
        return [self.path(), "-c", str(config), "-p", str(config.parent)]


class Dovecot(Peer):
    """Its login proxy in the high-performance mode: two login processes that serve any number of clients.
    Master, auth, anvil and log belong to it and are counted."""
    name = "dovecot"
    processes = 1 + WORKERS
    program = "dovecot"
    version_flag = "--version"
    front_plain = False
    speaks_imap = True
    steady = False

    def installed(self):
        # It insists on changing to accounts of its own.
        return super().installed() and Path("/usr/lib/dovecot/imap-login").exists() and os.geteuid() == 0

    def supports(self, setup):
        return super().supports(setup) and setup.imap and setup.group == "X25519"

    def configuration(self, setup, port, backend, folder):
        certificates = self.world.certificates
        many = 3 * self.world.connections
        return f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{certificates.chain(setup.certificate)}
ssl_key = <{certificates.key(setup.certificate)}
ssl_min_protocol = TLSv1.2
ssl_curve_list = X25519:prime256v1
ssl_require_crl = no
ssl_ca = <{certificates.authority}
auth_mechanisms = plain
login_log_format_elements =
default_vsz_limit = 0
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
  service_count = 0
  process_min_avail = {WORKERS}
  process_limit = {WORKERS}
  client_limit = {many}
}}
service anvil {{
  client_limit = {many}
}}
service auth {{
  client_limit = {many}
}}
passdb {{
  driver = static
  args = proxy=y nopassword=y host={NAME} hostip=127.0.0.1 port={backend}{" ssl=yes" if setup.back_tls else ""}
}}
"""

    def command(self, config):
        return [self.path(), "-F", "-c", str(config)]
