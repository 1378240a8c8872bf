# SPDX-License-Identifier: GPL-3.0-or-later
"""The sample configurations start as they are, once addresses and files are those of this machine."""
import glob
import os
import re

from harness import test

SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../deploy/samples")


def at_home(t, name, accounts=""):
    """A copy of the sample on loopback and in the test's folder; [(protocol, port)] in the order of the file."""
    with open(f"{SAMPLES}/{name}", encoding="utf-8") as f:
        text = f.read().replace("/etc/postern", t.folder)
    pair = t.pki.leaf("mail.example.org")
    for file, source in (("fullchain.pem", pair.chain), ("privkey.pem", pair.key)):
        with open(source, "rb") as f:
            t.file(f"tls/{file}", f.read(), 0o600)
    t.file("tls/tickets.keys", os.urandom(48).hex(), 0o600)
    t.file("accounts", accounts)
    ports = []

    def moved(_):
        ports.append(t.port())
        return f"127.0.0.1:{ports[-1]}"

    return t.file(name, re.sub(r"(?:0\.0\.0\.0|127\.0\.0\.1|\[::\]):\d+", moved, text)), ports


@test(quick=True)
def test_every_sample_starts_listens_and_stops(t):
    names = sorted(os.path.basename(p) for p in glob.glob(f"{SAMPLES}/*.toml") + glob.glob(f"{SAMPLES}/*.yaml"))
    assert {"minimal.toml", "dovecot-migration.toml", "cluster.toml", "cyrus.toml", "edge.toml", "edge.yaml",
            "reference-words.toml"} <= set(names), names
    for name in names:
        path, ports = at_home(t, name)
        daemon = t.postern(path, name=name.replace(".", "-"))
        for port in ports:
            t.await_port(port)
        assert not daemon.find(level="error"), daemon.find(level="error")
        warnings = [r for r in daemon.find(level="warn") if "descriptors" not in r.get("problem", "")]  # the machine's
        assert not warnings, warnings
        daemon.stop()


@test(quick=True)
def test_the_migration_sample_routes_those_who_moved_and_everybody_else(t):
    path, _ = at_home(t, "dovecot-migration.toml", "alice@example.org new\nBob@Example.org  new\n")
    for account, destination in (("alice@example.org", "new"), ("bob@example.org", "new"), ("carol@example.org", "old"),
                                 ("alice@example.org*support", "new")):
        code, out, err = t.command("explain", path, account)
        assert code == 0 and re.search(rf"\b{destination}\b", out.replace(t.folder, "")), (account, out, err)
        assert not re.search(r"\bnew\b" if destination == "old" else r"\bold\b", out.replace(t.folder, "")), (account, out)
