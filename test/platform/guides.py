#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guides say is tried: configurations by the programs they are for, commands as they are written, and
HAProxy and nginx of the guide in front of a running Postern. Links lead somewhere; benchmarks exist.
  guides.py BINARY
A fence is preceded by `<!-- run: KIND -->`, or by `<!-- not run here: WHY -->`; one without is a mistake. Those of
`package, STEP` are run by test/platform/package.sh, under systemd; those of `dovecots, STEP` together, by guide_dovecots.py, and
those of `machines, STEP` by guide_machines.py, which has a network for the edge and one for the mail server."""
import glob
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
import guide_dovecots  # noqa: E402  pylint: disable=wrong-import-position
import guide_machines  # noqa: E402  pylint: disable=wrong-import-position

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GUIDES = f"{TOP}/deploy/guides"
DOCUMENTS = sorted(glob.glob(f"{GUIDES}/*.md")) + [f"{TOP}/deploy/{d}.md" for d in ("observability", "tickets", "kubernetes/README")]
FENCE = re.compile(r"(?:<!-- (?P<how>[^>]*?) -->\n)?(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)\n *```", re.S)
FAILURES, COUNTS = [], {"passed": 0, "skipped": 0}


def check(right, what):
    if right:
        COUNTS["passed"] += 1
    else:
        FAILURES.append(what)
    return right


def run(command, **more):
    more.setdefault("timeout", 60)
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


class Place:
    """/etc/postern in a folder, with a pair, a table, and `postern` on the PATH."""

    def __init__(self, binary, folder):
        self.folder = folder
        os.makedirs(f"{folder}/etc/tls")
        os.makedirs(f"{folder}/bin")
        os.symlink(binary, f"{folder}/bin/postern")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
                        "-subj", "/CN=mail.example.com", "-addext", "subjectAltName=DNS:mail.example.com",
                        "-keyout", f"{folder}/etc/tls/privkey.pem", "-out", f"{folder}/etc/tls/fullchain.pem"],
                       check=True, capture_output=True)
        open(f"{folder}/etc/accounts", "w", encoding="utf-8").close()

    def here(self, text):
        return text.replace("/etc/postern", f"{self.folder}/etc")

    def write(self, name, text):
        path = f"{self.folder}/etc/{name}"
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    # each kind: None if it cannot be tried on this machine, else whether it is right and what was said
    def check(self, text):
        result = run([f"{self.folder}/bin/postern", "check", self.write("postern.toml", self.here(text))])
        return result.returncode == 0, result.stderr

    def sh(self, text):
        if not os.path.exists(f"{self.folder}/etc/postern.toml"):
            self.write("postern.toml", FIRST["text"].replace("/etc/postern", f"{self.folder}/etc"))
        path = f"{self.folder}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
        result = run(["bash", "-euo", "pipefail", "-c", self.here(text)], env=os.environ | {"PATH": path})
        # `command   # name: value` promises such a line, in the order of the commands.
        said = re.findall(r"^([a-z]+): +(.*)$", result.stdout, re.M)
        promised = re.findall(r"  # ([a-z]+): (.*)$", text, re.M)
        kept = [pair for pair in said if pair[0] in {name for name, _ in promised}] == promised
        return result.returncode == 0 and kept, result.stdout + result.stderr

    def prometheus(self, text):
        if not shutil.which("promtool"):
            return None
        rules = self.write("postern.rules.yaml", open(f"{TOP}/deploy/prometheus/postern.rules.yaml", encoding="utf-8").read())
        result = run(["promtool", "check", "config", self.write("prometheus.yaml", text.replace("/etc/prometheus/postern.rules.yaml", rules))])
        return result.returncode == 0, result.stdout + result.stderr

    def haproxy(self, text):
        if not shutil.which("haproxy", path="/usr/sbin:/usr/bin"):
            return None
        result = run(["/usr/sbin/haproxy", "-c", "-f", self.write("haproxy.cfg", text + "\n")])
        return result.returncode == 0, result.stdout + result.stderr

    def nginx_text(self, text):
        module = "/usr/lib/nginx/modules/ngx_stream_module.so"
        load = f"load_module {module};\n" if os.path.exists(module) else ""
        return f"{load}pid {self.folder}/nginx.pid;\nerror_log {self.folder}/nginx.log;\nevents {{}}\n{text}\n"

    def nginx(self, text):
        if not shutil.which("nginx", path="/usr/sbin:/usr/bin") or not os.path.exists("/usr/lib/nginx/modules/ngx_stream_module.so"):
            return None
        result = run(["/usr/sbin/nginx", "-t", "-c", self.write("nginx.conf", self.nginx_text(text))])
        return result.returncode == 0, result.stderr

    def dovecot(self, text):
        if not shutil.which("doveconf"):
            return None
        # The lines of 2.3 and of 2.4 that this one needs before it looks at those of the guide.
        base = "protocols = imap pop3 sieve\nssl = no\n" if guide_dovecots.words.old() else guide_dovecots.words.opening() + "ssl = no\n"
        result = run(["doveconf", "-n", "-c", self.write("dovecot.conf", f"{base}base_dir = {self.folder}/run\n{text}\n")])
        right = result.returncode == 0 and "imaps_edge" in result.stdout and "haproxy = yes" in result.stdout
        return right, result.stdout + result.stderr

    def postfix(self, text):
        if not shutil.which("postconf", path="/usr/sbin:/usr/bin"):
            return None
        os.makedirs(f"{self.folder}/postfix", exist_ok=True)
        for name, content in (("main.cf", "compatibility_level = 3.6\n"), ("master.cf", text + "\n")):
            with open(f"{self.folder}/postfix/{name}", "w", encoding="utf-8") as f:
                f.write(content)
        services = run(["/usr/sbin/postconf", "-c", f"{self.folder}/postfix", "-M"])
        options = re.findall(r"-o (\w+)=", text)
        known = run(["/usr/sbin/postconf", "-c", f"{self.folder}/postfix", "-d", *options])
        right = services.returncode == 0 and services.stdout.count("smtpd") >= 2 and len(known.stdout.splitlines()) >= len(set(options)) \
            and "unknown" not in known.stderr and "unknown" not in services.stderr
        return right, services.stdout + services.stderr + known.stderr


FIRST = {}


def free():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def backend(server):
    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        with peer:
            peer.sendall(b"220 backend\r\n")
            peer.recv(100)


def answers(port, wanted=b"220 backend\r\n", source="127.0.0.1"):
    """Within ten seconds, a greeting on that port."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), 2, source_address=(source, 0)) as client:
                client.settimeout(2)
                if client.recv(100) == wanted:
                    return True
        except OSError:
            pass
        time.sleep(0.1)
    return False


def balancers(place, binary, fences):
    """The guide's own configurations, at other ports, in front of the guide's own Postern: `peer` is the client."""
    if not place.haproxy(fences["haproxy"]) or not place.nginx(fences["nginx"]):
        COUNTS["skipped"] += 1
        return
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=backend, args=(server,), daemon=True).start()
    ports = {name: free() for name in ("imaps", "mx", "metrics", "h_imaps", "h_mx", "n_imaps", "n_mx")}
    text = place.here(fences["check"])
    for old, new in (('"0.0.0.0:993"', f'"127.0.0.1:{ports["imaps"]}"'), ('"0.0.0.0:25"', f'"127.0.0.1:{ports["mx"]}"'),
                     ("127.0.0.1:9090", f"127.0.0.1:{ports['metrics']}"), ("mail.internal.example.com", "127.0.0.1"),
                     ("port = 25\n", f"port = {server.getsockname()[1]}\n"), ('forwarding = "proxy"', 'forwarding = "none"\ntls_server_name = "x"')):
        assert old in text, old
        text = text.replace(old, new)
    common = ((":993", f":{ports['imaps']}"), (":25 ", f":{ports['mx']} "), (":25;", f":{ports['mx']};"), ("port 9090", f"port {ports['metrics']}"),
              ("0.0.0.0:1993", f"127.0.0.1:{ports['h_imaps']}"), ("0.0.0.0:1025", f"127.0.0.1:{ports['h_mx']}"),
              ("listen 2993", f"listen 127.0.0.1:{ports['n_imaps']}"), ("listen 2025", f"listen 127.0.0.1:{ports['n_mx']}"))
    moved = {}
    for kind in ("haproxy", "nginx"):
        moved[kind] = fences[kind]
        for old, new in common:
            moved[kind] = moved[kind].replace(old, new)
    log = open(f"{place.folder}/postern.log", "wb")
    children = [
        subprocess.Popen([binary, place.write("front.toml", text)], stdout=log, stderr=log),
        subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", place.write("haproxy.cfg", moved["haproxy"] + "\n")],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
        subprocess.Popen(["/usr/sbin/nginx", "-c", place.write("nginx.conf", "daemon off;\n" + place.nginx_text(moved["nginx"]))],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
    try:
        check(answers(ports["h_mx"], source="127.0.0.51"), "HAProxy of the guide leads to no backend")
        check(answers(ports["n_mx"], source="127.0.0.52"), "nginx of the guide leads to no backend")
        time.sleep(0.3)
        with open(f"{place.folder}/postern.log", encoding="utf-8") as f:
            said = f.read()
        for source, whose in (("127.0.0.51", "HAProxy"), ("127.0.0.52", "nginx")):
            check(re.search(rf" peer={source}:\d+ .*via=127.0.0.1:", said) or f"peer={source}:" in said and "via=" in said,
                  f"behind {whose} the client is not known: {said[-1500:]}")
        with socket.create_connection(("127.0.0.1", ports["mx"]), 5) as client:
            client.settimeout(8)
            client.sendall(b"EHLO x\r\n")
            try:
                check(client.recv(100) == b"", "without a header there was an answer")
            except ConnectionResetError:
                check(True, "")
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(15)
        log.close()
        server.close()


def dovecots(guide, fences, folder):
    mine = {kind.removeprefix("dovecots, "): text for kind, text in fences.items() if kind.startswith("dovecots, ")}
    if not mine:
        return
    if not shutil.which("doveadm"):
        COUNTS["skipped"] += 1
        return
    os.chmod(folder, 0o755)
    try:
        {"migration": guide_dovecots.moved, "from-dovecot-proxy": guide_dovecots.table}[guide](mine, folder)
        check(True, "")
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        check(False, f"{guide}: with real Dovecots: {error}")


def machines(fences, binary, folder):
    missing = guide_machines.missing()
    if missing:
        COUNTS["skipped"] += 1
        print(f"dovecot-postfix: two machines: {missing}")
        return
    try:
        for what in guide_machines.walk(fences, binary, folder):
            check(True, what)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        check(False, f"dovecot-postfix: between two machines: {error}")


def main(binary):
    binary = os.path.abspath(binary)
    with open(f"{GUIDES}/dovecot-postfix.md", encoding="utf-8") as f:
        FIRST["text"] = next(m["text"] for m in FENCE.finditer(f.read()) if m["how"] == "run: check")
    with open(f"{TOP}/test/platform/package.sh", encoding="utf-8") as f:
        under_systemd = set(re.findall(r"\$\(fence (\w+)", f.read()))
    for document in DOCUMENTS:
        guide = os.path.relpath(document, f"{TOP}/deploy").removeprefix("guides/").removesuffix(".md")
        with open(document, encoding="utf-8") as f:
            text = f.read()
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            place, fences = Place(binary, folder), {}
            for fence in FENCE.finditer(text):
                how = fence["how"] or ""
                if how.startswith("not run here: "):
                    continue
                if not check(how.startswith("run: "), f"{guide}: a fence that says neither whether nor why not:\n{fence['text'][:80]}"):
                    continue
                kind = how.removeprefix("run: ")
                if kind.startswith("package, "):
                    check(kind.removeprefix("package, ") in under_systemd, f"{guide}: test/platform/package.sh does not run {kind}")
                    continue
                fences[kind] = fence["text"]
                if kind.startswith(("dovecots, ", "machines, ")):
                    continue
                outcome = getattr(place, kind)(fence["text"])
                if outcome is None:
                    COUNTS["skipped"] += 1
                    print(f"{guide}: {kind} is not installed")
                else:
                    check(outcome[0], f"{guide}: {kind}:\n{fence['text']}\n{outcome[1]}")
            if guide == "behind-a-balancer":
                balancers(place, binary, fences)
            if guide == "dovecot-postfix":
                machines(fences, binary, folder)
            dovecots(guide, fences, folder)
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            check(link.startswith("https://") or os.path.exists(f"{os.path.dirname(document)}/{link}"), f"{guide}: {link} is not there")
        for key in re.findall(r"--cases ([\w,-]+)", text):
            known = run([f"{TOP}/test/bench/run", "--help"]).stdout.replace("\n", "").replace(" ", "")
            for case in key.split(","):
                check(case in known, f"{guide}: no benchmark is called {case}")
    print("\n".join(FAILURES))
    skipped = f", {COUNTS['skipped']} skipped" if COUNTS["skipped"] else ""
    print(f"{COUNTS['passed']} passed, {len(FAILURES)} failed{skipped}")
    return 1 if FAILURES else 77 if COUNTS["skipped"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
