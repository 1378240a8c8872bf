# SPDX-License-Identifier: GPL-3.0-or-later
"""Files published the way Kubernetes does it: a volume's files are links through ..data, and ..data is
swapped as a whole. The configuration and the certificates follow, with no signal and no session lost."""
import os
import time

import wire
from harness import test
from test_tls_life import NAME, becomes


class Volume:
    """A mounted ConfigMap or Secret."""

    def __init__(self, t, name):
        self.folder, self.version = t.folder_for(name), 0

    def publish(self, **files):
        """Each name a text; what was there before is gone, all at once."""
        before = os.path.realpath(f"{self.folder}/..data") if self.version else None
        self.version += 1
        data = f"..2026_11_21_07_00_00.{self.version}"
        os.mkdir(f"{self.folder}/{data}")
        for name, text in files.items():
            with open(f"{self.folder}/{data}/{name.replace('__', '.')}", "w", encoding="utf-8") as out:
                out.write(text)
            link = f"{self.folder}/{name.replace('__', '.')}"
            if not os.path.islink(link):
                os.symlink(f"..data/{name.replace('__', '.')}", link)
        os.symlink(data, f"{self.folder}/..data_tmp")
        os.rename(f"{self.folder}/..data_tmp", f"{self.folder}/..data")
        if before:
            for name in os.listdir(before):
                os.unlink(f"{before}/{name}")
            os.rmdir(before)

    def path(self, name):
        return f"{self.folder}/{name}"


def text(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def pair(p):
    return {"tls__crt": text(p.chain), "tls__key": text(p.key)}


def greeting(daemon, t):
    client = wire.tls_connect(daemon.port("smtp"), t.pki.client(), NAME)
    try:
        return client.line()
    finally:
        client.close()


def greets(daemon, t, wanted, timeout=5):
    deadline = time.monotonic() + t.scaled(timeout)
    while (got := greeting(daemon, t)) != wanted:
        assert time.monotonic() < deadline, (got, wanted)
        time.sleep(0.1)


def start(t):
    """A daemon whose configuration and certificate come from two volumes; two backends that greet."""
    one = t.backend().serve(wire.greeter(b"220 one\r\n"))
    two = t.backend().serve(wire.greeter(b"220 two\r\n"))
    secret, config = Volume(t, "tls"), Volume(t, "config")
    leaf = t.pki.leaf(NAME)
    secret.publish(**pair(leaf))
    conf = t.base(one, tls=True)
    conf["tls.certificate.main"] = {"cert": secret.path("tls.crt"), "key": secret.path("tls.key")}
    config.publish(postern__toml=conf.text())
    daemon = t.postern(conf, args=["run", config.path("postern.toml")])
    return daemon, conf, config, secret, two


def sent_to(conf, backend):
    conf["destination.relay.protocol.smtp.port"] = backend.port
    return conf.text()


@test(quick=True, limit=40)
def test_configuration_and_certificates_follow_a_swapped_link_and_no_session_is_lost(t):
    daemon, conf, config, secret, two = start(t)
    live = wire.tls_connect(daemon.port("smtp"), t.pki.client(), NAME).expect("220 one\r\n")
    other = t.pki.leaf(NAME, key=1)
    secret.publish(**pair(other))
    config.publish(postern__toml=sent_to(conf, two))
    becomes(t, daemon, other)
    greets(daemon, t, "220 two")
    live.send("still here").expect("still here")
    assert daemon.find("reloaded", scope="everything"), daemon.records()
    assert daemon.metric("postern_reloads_total", result="failed") == 0
    assert daemon.process.poll() is None


@test(quick=True, limit=40)
def test_a_bad_configuration_behind_the_link_changes_nothing_and_the_next_good_one_counts(t):
    daemon, conf, config, _, two = start(t)
    live = wire.tls_connect(daemon.port("smtp"), t.pki.client(), NAME).expect("220 one\r\n")
    config.publish(postern__toml=conf.text() + "\n[listener.smtp]\n")
    daemon.wait("reload failed, nothing changed", scope="everything")
    assert any("postern.toml:" in r["problem"] for r in daemon.find("configuration")), daemon.records()
    assert greeting(daemon, t) == "220 one"
    config.publish(postern__toml=sent_to(conf, two))
    greets(daemon, t, "220 two")
    live.send("x").expect("x")


@test(limit=40)
def test_a_configuration_that_came_before_its_certificate_is_tried_again(t):
    daemon, conf, config, secret, two = start(t)
    conf["tls.certificate.main"] = {"cert": secret.path("new.crt"), "key": secret.path("new.key")}
    config.publish(postern__toml=sent_to(conf, two))
    daemon.wait("reload failed, nothing changed", scope="everything")
    assert greeting(daemon, t) == "220 one"
    leaf, other = t.pki.leaf(NAME), t.pki.leaf(NAME, key=1)
    secret.publish(**pair(leaf), new__crt=text(other.chain), new__key=text(other.key))
    greets(daemon, t, "220 two")
    becomes(t, daemon, other)


@test(limit=20)
def test_a_configuration_that_is_edited_in_place_waits_for_the_signal(t):
    one, two = t.backend().serve(wire.greeter(b"220 one\r\n")), t.backend().serve(wire.greeter(b"220 two\r\n"))
    conf = t.base(one, tls=True)
    daemon = t.postern(conf)
    t.file("postern0.toml", sent_to(conf, two))
    time.sleep(1.5)
    assert greeting(daemon, t) == "220 one"
    assert not daemon.find("file changed")


@test(quick=True)
def test_the_status_page_needs_nothing_else_and_names_nobody(t):
    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend, tls=True)
    conf["server.hostname"] = "edge.example.com"
    daemon = t.postern(conf)
    live = wire.tls_connect(daemon.port("smtp"), t.pki.client(), NAME).expect("220 relay\r\n")
    status, page, headers = daemon.http("/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8", headers
    assert "default-src 'none'" in headers["Content-Security-Policy"], headers
    for words in ("edge.example.com", "relay", "Listeners", "Certificates", "TLS 1.3", "<svg", ">up<"):
        assert words in page, words
    assert f":{live.sock.getsockname()[1]}" not in page and "<script" not in page and "src=" not in page
    assert daemon.http("/", "POST")[0] == 405
    live.send("x").expect("x")
