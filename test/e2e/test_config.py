# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line and the configuration file as an operator meets them: diagnostics, formats, the environment,
what may be asked of the binary, and that no secret leaves it."""
import glob
import json
import os
import re
import signal
import socket
import subprocess

import wire
from harness import test

HERE = os.path.dirname(os.path.abspath(__file__))
SAMPLES = f"{HERE}/../../deploy/samples"
PLACED = re.compile(r"(?P<file>[^:]+):(?P<line>\d+):(?P<column>\d+): (?P<key>[\w.]+)(\[\d+\])?: .+")

# Ten mistakes, each on a line that ends with `# wrong` and the key its diagnostic must name.
TEN = """[server]
threads = "two"  # wrong server.threads
log_level = "loud"  # wrong server.log_level
bridge_idle = "10"  # wrong server.bridge_idle
shutdown_grase = "1s"  # wrong server.shutdown_grase
[listener.one]
protocol = "smtp"
bind = ["localhost:2525"]  # wrong listener.one.bind
tls = "sometimes"  # wrong listener.one.tls
[listener.two]
protocol = "smtp"
bind = ["127.0.0.1:@PORT@"]
tls = "plain"
max_connections = 0  # wrong listener.two.max_connections
[mapping]
source = "file"
[mapping.file]
path = "@MAP@"
[routing]
default_destination = "relay"
smtp_passthrough_destination = "relay"
[destination.relay]
host = "127.0.0.1"
forwarding = "carrier pigeon"  # wrong destination.relay.forwarding
[destination.relay.protocol.smtp]
port = 99999  # wrong destination.relay.protocol.smtp.port
tls = "plain"
[metrics]
bind = "nowhere"  # wrong metrics.bind
"""


def free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def serves(daemon, backend):
    client = wire.connect(daemon.port("smtp"))
    backend.accept().send("220 relay\r\n")
    client.expect("220 relay\r\n").close()
    daemon.closing()


def yaml(tree, depth=0):
    """Block style, plain scalars: what people write."""
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += [f"{'  ' * depth}{key}:", *yaml(value, depth + 1)]
        elif isinstance(value, list):
            lines.append(f"{'  ' * depth}{key}: {json.dumps(value)}")
        else:
            text = json.dumps(value) if not isinstance(value, str) or value == "" else value
            lines.append(f"{'  ' * depth}{key}: {text}")
    return lines


@test(quick=True)
def test_ten_mistakes_are_ten_lines_each_with_its_place(t):
    port = t.port()
    text = TEN.replace("@PORT@", str(port)).replace("@MAP@", t.file("map", ""))
    path = t.file("ten.toml", text)
    expected = {n: line.rsplit(" ", 1)[1] for n, line in enumerate(text.splitlines(), 1) if "# wrong" in line}
    assert len(expected) == 10
    for verb in ("check", "run"):
        code, out, err = t.command(verb, path)
        assert code == 1 and out == "", (verb, code, out)
        first, *others = err.splitlines()
        assert first.startswith("invalid configuration: "), err
        lines = [first.removeprefix("invalid configuration: "), *others]
        found = [PLACED.fullmatch(line) for line in lines]
        assert all(found) and len(found) == 10, err
        assert {m["file"] for m in found} == {path}, err
        assert {int(m["line"]): m["key"] for m in found} == expected, err
        assert "shutdown_grace" in next(line for line in lines if "shutdown_grase" in line), "the nearest key is not named"
        assert free(port)


@test(quick=True)
def test_a_wrong_file_opens_no_port(t):
    """Scenario 272; all of the rejections are in test/unit/conf."""
    conf = t.base(t.port())
    conf["server.threads"] = "two"
    daemon = t.postern(conf, wait=False)
    taken = False
    while daemon.process.poll() is None:
        taken = taken or not free(daemon.port("smtp"))
    assert not taken
    daemon.stop(expect=1)


@test(quick=True)
def test_what_differs_from_the_running_file_is_told_with_the_time_it_applies(t):
    good = t.base(t.port())
    running = t.file("running.toml", good.text())
    good["server.log_level"] = "debug"
    good["server.threads"] = 3
    good["listener.smtp.max_errors"] = 7
    wanted = t.file("wanted.toml", good.text())
    code, out, err = t.command("check", wanted, "--against", running)
    assert (code, err) == (0, ""), (code, err)
    told = [line.split() for line in out.splitlines() if line.startswith("  ")]
    assert told == [["at", "once", "server.log_level"], ["new", "connections", "listener.smtp.max_errors"],
                    ["restart", "server.threads"]], out
    code, out, _ = t.command("check", "--against=" + running, running)
    assert code == 0 and "nothing changes" in out, (code, out)
    code, out, err = t.command("check", wanted, "--against", f"{t.folder}/missing.toml")
    assert code == 1 and "missing.toml" in err, (code, err)
    assert t.command("check", wanted, "--agianst", running)[0] == 2


@test(quick=True)
def test_where_the_path_of_the_configuration_comes_from(t):
    """Scenarios 274 and 275."""
    code, out, err = t.command()
    assert code == 2 and "usage:" in err and out == "", (code, out, err)
    for verb in ("run", "check", "explain"):
        code, out, err = t.command(verb)
        assert code == 2 and "usage:" in err, (verb, code, err)
    backend = t.backend()
    good = t.base(backend)
    path = t.file("good.toml", good.text())
    for args, env in (([], {"PROXY_CONFIG": path}), (["run"], {"PROXY_CONFIG": path}), ([path], {}),
                      ([path], {"PROXY_CONFIG": f"{t.folder}/missing.toml"})):
        daemon = t.postern(good, args=args, env=env)
        serves(daemon, backend)
        daemon.stop()
    missing = f"{t.folder}/missing.toml"
    code, _, err = t.command(missing, env={"PROXY_CONFIG": path})
    assert code == 1 and missing in err, (code, err)


@test(quick=True)
def test_a_configuration_that_cannot_be_read_is_the_only_thing_complained_of(t):
    unreadable = f"{t.folder}/missing.toml"
    for path, wrong in ((unreadable, "cannot be read"), (t.file("broken.toml", "[server\nthreads = 1\n"), ":1:"),
                        (t.file("broken.yaml", "server: [\n"), ":"), (t.file("latin.toml", b"[server]\n# \xff\n"), "not UTF-8")):
        for verb in ("check", "run"):
            code, out, err = t.command(verb, path)
            lines = err.splitlines()
            assert code == 1 and out == "" and len(lines) == 1, (verb, path, code, err)
            assert lines[0].startswith(f"invalid configuration: {path}") and wrong in lines[0], err
            assert "mapping" not in err, err


@test(quick=True)
def test_rust_log_replaces_the_level_unless_it_is_nonsense(t):
    """Scenario 274, the level."""
    backend = t.backend().serve(wire.greeter())
    for level, words, levels in (("warn", "debug", {"debug", "info"}), ("info", "::bad::", {"info"}),
                                 ("debug", "::bad::", {"debug", "info"}), ("debug", "info", {"info"}),
                                 ("info", "warn", set())):
        conf = t.base(backend)
        conf["server.log_level"] = level
        daemon = t.postern(conf, env={"RUST_LOG": words}, wait=False)
        t.await_port(daemon.port("smtp"), process=daemon.process)
        client = wire.connect(daemon.port("smtp"))
        client.expect("220 relay\r\n").close()
        daemon.await_metric("postern_connections_active", 0)
        daemon.stop()
        seen = {r["level"].lower() for r in daemon.records()} & {"debug", "info"}
        assert seen == levels, f"log_level {level}, RUST_LOG={words}: {seen}"


@test(quick=True)
def test_json_records_carry_the_field_names_of_logfmt(t):
    backend, names = t.backend(), {}
    for form in ("logfmt", "json"):
        conf = t.base(backend)
        conf["server.log_format"] = form
        daemon = t.postern(conf)
        serves(daemon, backend)
        daemon.stop()
        for line in daemon.stdout().splitlines():
            assert line.startswith("{") == (form == "json"), line
            if form == "json":
                assert isinstance(json.loads(line), dict)
        names[form] = {r["msg"]: list(r) for r in daemon.records()}
    assert names["json"] == names["logfmt"]
    assert {"proxy started", "listening", "session closed"} <= set(names["json"])


@test(quick=True)
def test_options_that_only_print(t):
    for words, complaint in ((["--frobnicate"], 'unknown option "--frobnicate"'), (["-x"], 'unknown option "-x"'),
                             (["check", "--strict", "x"], 'unknown option "--strict"'),
                             (["--secomp=on", "x"], 'unknown option "--secomp=on"; did you mean "--seccomp"?'),
                             (["--user"], "--user needs a value"),
                             (["chekc", "x"], 'unknown command "chekc"; did you mean "check"?'),
                             (["chekc"], 'unknown command "chekc"; did you mean "check"?'),
                             (["frobnicate", "x"], 'unknown command "frobnicate"'),
                             (["check", "x", "y"], "too many arguments")):
        code, out, err = t.command(*words)
        assert code == 2 and err.startswith(f"postern: {complaint}\nusage:") and out == "", (words, code, err)
    code, out, err = t.command("--version")
    assert code == 0 and re.match(r"postern \d+\.\d+", out) and err == "", out
    code, out, err = t.command("--help")
    assert code == 0 and out.startswith("usage: postern") and err == ""
    for word in ("check", "explain", "schema", "reference", "healthcheck", "PROXY_CONFIG"):
        assert word in out, f"--help does not mention {word}"
    code, out, err = t.command("schema")
    schema = json.loads(out)
    assert code == 0 and err == "" and {"server", "listener", "destination"} <= set(schema["properties"])
    code, out, err = t.command("reference")
    assert code == 0 and err == "" and "shutdown_grace" in out and out.count("|") > 100


@test(quick=True)
def test_explain_tells_where_an_account_goes_and_why(t):
    conf = t.base(t.port())
    mapping = t.file("accounts", "# accounts\nalice@example.com\tother\n")
    conf["mapping.file.path"] = mapping
    conf["routing.master_user_separators"] = ["*"]
    conf["destination.other"] = {"host": "127.0.0.7", "forwarding": "none"}
    conf["destination.other.protocol.smtp"] = {"port": 2599, "tls": "plain"}
    path = t.file("explain.toml", conf.text())

    def explain(account, status=0):
        code, out, err = t.command("explain", path, account)
        assert code == status and err == "", (code, out, err)
        return {k.strip(): v.strip() for k, v in (line.split(":", 1) for line in out.splitlines() if ":" in line)}

    mapped = explain("Alice@Example.com")
    assert mapped["destination"] == "other" and f"{mapping}:2" in mapped["mapping"], mapped
    assert mapped["normalised"] == "alice@example.com" and mapped["host"] == "127.0.0.7"
    assert explain("bob@example.com")["destination"] == "relay"
    master = explain("alice@example.com*admin")
    assert master["destination"] == "other" and master["identifier"].startswith("alice@example.com "), master
    for invalid in ("", "a b@example.com", 'a"b', "a\x01b", "x" * 321):
        answer = explain(invalid, status=1)
        assert "refused" in answer and "destination" not in answer, (invalid, answer)
    code, out, err = t.command("explain", t.file("broken.toml", "[server]\nthreads = -1\n"), "bob")
    assert code == 1 and err.startswith("invalid configuration: "), err


@test(quick=True)
def test_healthcheck_asks_a_running_daemon(t):
    daemon = t.postern(t.base(t.port()))
    url = f"http://{daemon.conf['metrics.bind']}/healthz"
    assert t.command("healthcheck", url)[0] == 0
    assert t.command("healthcheck", env={"PROXY_CONFIG": daemon.path})[0] == 0
    assert t.command("healthcheck", url.replace("healthz", "readyz"))[0] == 0
    assert t.command("healthcheck", url.replace("healthz", "nothing"))[0] == 1
    assert t.command("healthcheck")[0] == 2
    daemon.stop()
    code, _, err = t.command("healthcheck", url)
    assert code == 1 and url in err, (code, err)


@test(quick=True)
def test_yaml_json_and_kebab_case_files_serve(t):
    backend = t.backend()
    conf = t.base(backend)
    kebab = re.sub(r"^(\w+)( =)", lambda m: m[1].replace("_", "-") + m[2], conf.text(), flags=re.M)
    assert "shutdown-grace" in kebab and "default-destination" in kebab
    for name, text in (("a.yaml", "\n".join(yaml(conf.tree)) + "\n"), ("a.yml", json.dumps(conf.tree)),
                       ("a.json", json.dumps(conf.tree, indent=2)), ("kebab.conf", kebab)):
        path = t.file(name, text)
        code, _, err = t.command("check", path)
        assert code == 0 and err == "", (name, err)
        daemon = t.postern(conf, args=["run", path])
        serves(daemon, backend)
        daemon.stop()
    both = conf.text().replace("[server]\n", '[server]\nshutdown-grace = "3s"\n')
    code, _, err = t.command("check", t.file("both.toml", both))
    assert code == 1 and "shutdown" in err, (code, err)


@test(quick=True)
def test_every_sample_passes_check(t):
    pair = t.pki.leaf("mx.example.org")
    os.chmod(pair.key, 0o600)  # who can read it is worth a warning
    keys = t.file("tickets.keys", os.urandom(48).hex() + "\n", 0o600)
    samples = sorted(glob.glob(f"{SAMPLES}/*.*"))
    assert samples
    for sample in samples:
        with open(sample, encoding="utf-8") as f:
            text = f.read()
        for place, path in (("/etc/postern/tls/fullchain.pem", pair.chain), ("/etc/postern/tls/privkey.pem", pair.key),
                            ("/etc/postern/tls/tickets.keys", keys), ("/etc/postern/accounts", t.file("accounts", ""))):
            text = text.replace(place, path)
        assert "/etc/" not in re.sub(r"#.*", "", text), f"{sample} names a path this test does not know"
        code, out, err = t.command("check", t.file(os.path.basename(sample), text))
        assert code == 0 and "valid" in out and err == "", (sample, err)


@test(quick=True)
def test_what_this_build_does_not_serve_is_refused_with_these_words(t):
    words = "not supported by this build yet"
    for change in ({"listener.smtp.protocol": "http", "destination.relay.protocol.http": {"port": 443, "tls": "implicit"}},
                   {"admin": {"bind": "127.0.0.1:1", "bearer_token": "0123456789abcdef0123456789abcdef"}},
                   {"server.listener_state": f"{t.folder}/state"}):
        conf = t.base(t.port())
        for key, value in change.items():
            conf[key] = value
        code, _, err = t.command("check", t.file("later.toml", conf.text()))
        assert code == 1 and words in err, (change, err)
        assert list(change)[0].split(".")[0] in next(line for line in err.splitlines() if words in line), err


@test(quick=True)
def test_core_files_are_forbidden_unless_asked_for(t):
    for wanted, limit in ((None, "0"), (False, "0"), (True, "4096")):
        conf = t.base(t.port())
        if wanted is not None:
            conf["server.core_dumps"] = wanted
        daemon = t.postern(conf, wrap=("prlimit", "--core=4096:4096"))
        with open(f"/proc/{daemon.pid}/limits", encoding="ascii") as f:
            soft, hard = re.search(r"Max core file size\s+(\S+)\s+(\S+)", f.read()).groups()
        # The address sanitizer's own start forbids core files, too, though only softly.
        assert hard == limit and (soft == limit or t.sanitized), (wanted, soft, hard)
        daemon.stop()


@test(quick=True)
def test_core_files_are_forbidden_before_anything_is_read(t):
    """A crash in the reader of a file must not write out the keys that were read before it."""
    path = f"{t.folder}/waiting.toml"
    os.mkfifo(path)
    for words in (("run",), ("check",), ("explain",)):
        process = subprocess.Popen(["prlimit", "--core=4096:4096", t.binary, *words, path, *(["a"] if words == ("explain",) else [])],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        writing = os.open(path, os.O_WRONLY)  # once this returns it has begun to read
        with open(f"/proc/{process.pid}/limits", encoding="ascii") as f:
            soft = re.search(r"Max core file size\s+(\S+)", f.read())[1]
        process.kill()
        process.wait(20)
        os.close(writing)
        assert soft == "0", (words, soft)


@test(quick=True)
def test_no_secret_appears_in_log_or_diagnostics(t):
    pair, other = t.pki.leaf("mail.example.com"), t.pki.leaf("mail.example.com", key=1)
    with open(pair.chain, encoding="ascii") as f:
        chain = f.read()
    with open(pair.key, encoding="ascii") as f:
        key = f.read()
    with open(other.key, encoding="ascii") as f:
        wrong = f.read()
    tickets = os.urandom(48).hex()

    def secret_free(text, what):
        for material in (key, wrong):
            for line in material.splitlines():
                assert "-----" in line or line not in text, f"{what} shows a private key: {text[:400]}"
        assert tickets[:16] not in text and tickets[40:56] not in text, f"{what} shows a ticket key"

    for name, material in (("mismatch", wrong), ("cut", key[:len(key) // 2]), ("garbled", key.replace("-----END", "---END"))):
        conf = t.base(t.port(), tls=True)
        conf["tls.certificate.main"] = {"cert": chain, "key": material, "default": True}
        code, out, err = t.command("check", t.file(f"{name}.toml", conf.text()))
        assert code == 1 and "tls.certificate.main" in err, (name, err)
        secret_free(out + err, name)
    conf = t.base(t.port(), tls=True)
    conf["tls.tickets.file"] = t.file("short.keys", tickets[:95], 0o600)
    code, out, err = t.command("check", t.file("short.toml", conf.text()))
    assert code == 1 and "tls.tickets.file" in err, err
    secret_free(out + err, "a short ticket file")

    backend = t.backend().serve(wire.greeter())
    conf = t.base(backend, tls=True)
    conf["tls.certificate.main"] = {"cert": chain, "key": key, "default": True}
    conf["tls.tickets.file"] = t.file("tickets.keys", tickets, 0o600)
    conf["server.log_level"] = "trace"
    daemon = t.postern(conf)
    wire.tls_connect(daemon.port("smtp"), t.pki.client(), "mail.example.com").expect("220 relay\r\n").close()
    daemon.closing()
    conf["tls.certificate.main.key"] = wrong
    daemon.reload(conf, good=False)
    daemon.signal(signal.SIGTERM)
    daemon.stop()
    secret_free(daemon.stdout() + daemon.stderr(), "the log")
