#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules, their unit tests, dashboard and documentation speak of the metrics a running daemon really exports:
names and labels, each alert tested, each metric described.
  observability.py BINARY"""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEPLOY = f"{TOP}/deploy"
FAILURES, PASSED = [], [0]
STORE_METRICS = {"postern_store_up": "gauge", "postern_store_connections": "gauge", "postern_store_served_stale_total": "counter",
                 "postern_store_snapshot_age_seconds": "gauge"}
IDENTIFIER = re.compile(r"(?:postern_|process_|postern:)[A-Za-z0-9_:]+")


def check(right, what):
    if right:
        PASSED[0] += 1
    else:
        FAILURES.append(what)


def port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def backend(server):
    """Greets, repeats what it hears."""
    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        with peer:
            peer.sendall(b"220 backend\r\n")
            while data := peer.recv(1000):
                peer.sendall(data)


def store_of(binary, folder):
    """[mapping] with an account store that this binary can ask, if there is one; nobody answers at its address."""
    for mapping in ({"source": "redis", "redis": {"url": "redis://127.0.0.1:9/0"}},
                    {"source": "sql", "sql": {"url": f"sqlite://{folder}/absent.db", "query": "SELECT 1"}},
                    {"source": "sql", "sql": {"url": "postgres://127.0.0.1:9/x", "query": "SELECT 1"}}):
        probe = f"{folder}/probe.yaml"
        with open(probe, "w", encoding="utf-8") as f:
            json.dump({"mapping": mapping}, f)
        done = subprocess.run([binary, "check", probe], capture_output=True, text=True, check=False)
        if "was made without" not in done.stderr:
            return mapping | {"snapshot": f"{folder}/answers"}
    return None


def scrape(binary, folder, mapping=None):
    """{metric: {"type": ..., "labels": set}} of a daemon that has served a session of every kind it counts."""
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=backend, args=(server,), daemon=True).start()
    smtp, imap, metrics = port(), port(), port()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    "/CN=x", "-keyout", f"{folder}/key", "-out", f"{folder}/cert"], check=True, capture_output=True)
    open(f"{folder}/accounts", "w", encoding="utf-8").close()
    with open(f"{folder}/postern.yaml", "w", encoding="utf-8") as f:
        json.dump({"server": {"threads": 1}, "metrics": {"bind": f"127.0.0.1:{metrics}"},
                   "tls": {"certificate": {"x": {"cert": f"{folder}/cert", "key": f"{folder}/key"}}},
                   "listener": {"mx": {"protocol": "smtp", "bind": f"127.0.0.1:{smtp}", "tls": "plain"},
                                "imap": {"protocol": "imap", "bind": f"127.0.0.1:{imap}", "tls": "starttls"}},
                   "mapping": mapping or {"source": "file", "file": {"path": f"{folder}/accounts"}},
                   "routing": {"default_destination": "d", "smtp_passthrough_destination": "d"},
                   "destination": {"d": {"host": "127.0.0.1", "tls_server_name": "d.test", "protocol": {
                       p: {"port": server.getsockname()[1], "tls": "plain"} for p in ("smtp", "lmtp")} | {
                           "imap": {"port": server.getsockname()[1], "tls": "starttls"}}}}}, f)
    with open(f"{folder}/log", "wb") as log:
        daemon = subprocess.Popen([binary, f"{folder}/postern.yaml"], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{metrics}"
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{url}/healthz", timeout=2).close()
                break
            except OSError:
                time.sleep(0.05)
        with socket.create_connection(("127.0.0.1", smtp), 5) as client:
            client.recv(100)
        time.sleep(0.3)
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as reply:
            text = reply.read().decode()
    finally:
        daemon.terminate()
        daemon.wait(10)
        server.close()
    known = {}
    for line in text.splitlines():
        if found := re.match(r"# TYPE (\S+) (\S+)", line):
            known[found[1]] = {"type": found[2], "labels": {"job", "instance"}}
        elif found := re.match(r"([A-Za-z_:0-9]+)(?:\{(.*)\})? ", line):
            name = found[1] if found[1] in known else re.sub(r"_(bucket|sum|count)$", "", found[1])
            known[name]["labels"] |= set(re.findall(r"(\w+)=\"", found[2] or ""))
    return known


def metric(name, known):
    """The exported metric behind a name in an expression."""
    short = re.sub(r"_(bucket|sum|count)$", "", name)
    if short != name and known.get(short, {}).get("type") == "histogram":
        return short
    return name if name in known and known[name]["type"] != "histogram" else None


def check_expression(expression, known, recorded, where):
    names = set(IDENTIFIER.findall(expression))
    labels = set()
    for name in names:
        if name in recorded:
            labels |= recorded[name]
            continue
        real = metric(name, known)
        check(real is not None, f"{where}: no metric {name}")
        labels |= known[real]["labels"] if real else set()
    for selector, grouping in re.findall(r"\{([^}]*)\}|(?:by|on|without)\s*\(([^)]*)\)", expression):
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) | set(re.findall(r"\w+", grouping))
        for label in used:
            check(label in labels, f"{where}: no label {label} in {expression}")
    return names


def rules_of(document):
    return [rule for group in document["groups"] for rule in group["rules"]]


def promtool(*arguments):
    result = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    check(result.returncode == 0, f"promtool {' '.join(arguments)}:\n{result.stdout}{result.stderr}")


def check_dashboard(known, recorded, folder):
    with open(f"{DEPLOY}/grafana/postern.json", encoding="utf-8") as f:
        board = json.load(f)
    expressions, places = [], {}
    names = set()
    check(len({p["id"] for p in board["panels"]}) == len(board["panels"]), "dashboard: an id comes twice")
    for panel in board["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                check(x < 24 and (x, y) not in places, f"dashboard: {panel['title']} overlaps {places.get((x, y))}")
                places[(x, y)] = panel["title"]
        check(panel["type"] == "row" or panel["targets"], f"dashboard: {panel['title']} asks nothing")
        expressions += [(t["expr"], panel["title"]) for t in panel.get("targets", [])]
    expressions += [(a["expr"], a["name"]) for a in board["annotations"]["list"]]
    expressions += [(v["query"]["query"], v["name"]) for v in board["templating"]["list"] if v["type"] == "query"]
    for expression, title in expressions:
        names |= check_expression(expression, known, recorded, f"dashboard, {title}")
    # What remains once Grafana has put in its variables is PromQL.
    plain = [re.sub(r"\$__rate_interval", "5m", e).replace("$", "") for e, _ in expressions if "label_values" not in e]
    with open(f"{folder}/dashboard.yaml", "w", encoding="utf-8") as f:
        json.dump({"groups": [{"name": "d", "rules": [{"record": f"d:{i}", "expr": e} for i, e in enumerate(plain)]}]}, f)
    promtool("check", "rules", f"{folder}/dashboard.yaml")
    return names


def main(binary):
    if not shutil.which("promtool"):
        print("promtool is not installed")
        return 77
    import yaml  # pylint: disable=import-outside-toplevel
    with open(f"{DEPLOY}/prometheus/postern.rules.yaml", encoding="utf-8") as f:
        rules = rules_of(yaml.safe_load(f))
    with open(f"{DEPLOY}/prometheus/postern.test.yaml", encoding="utf-8") as f:
        tests = yaml.safe_load(f)["tests"]
    with open(f"{DEPLOY}/observability.md", encoding="utf-8") as f:
        document = f.read()
    with tempfile.TemporaryDirectory() as folder:
        binary = os.path.abspath(binary)
        known = scrape(binary, folder)
        store = store_of(binary, folder)
        if store:
            known |= scrape(binary, folder, store)
        else:
            print("the binary was made without any account store: what such a store has to show is taken for granted")
            for name, kind in STORE_METRICS.items():
                known[name] = {"type": kind, "labels": {"job", "instance"}}
        check(len(known) > 25, f"only {len(known)} metrics were exported")
        recorded = {}
        for rule in rules:
            names = set(IDENTIFIER.findall(rule["expr"]))
            recorded[rule.get("record", "")] = {label for n in names for label in recorded.get(
                n, known.get(metric(n, known) or "", {}).get("labels", set()))}
            check_expression(rule["expr"], known, recorded, f"rule {rule.get('record') or rule['alert']}")
        alerts = {rule["alert"] for rule in rules if "alert" in rule}
        tried = {a["alertname"] for t in tests for a in t.get("alert_rule_test", []) if a["exp_alerts"]}
        check(alerts == tried, f"alerts never seen to fire in a test: {sorted(alerts - tried)}, or unknown: {sorted(tried - alerts)}")
        for series in (s["series"] for t in tests for s in t["input_series"]):
            check_expression(series, known, recorded, "rule test")
        promtool("check", "rules", f"{DEPLOY}/prometheus/postern.rules.yaml")
        promtool("test", "rules", f"{DEPLOY}/prometheus/postern.test.yaml")
        shown = check_dashboard(known, recorded, folder)
    for name in known:
        check(f"`{name}`" in document, f"observability.md does not describe {name}")
    for name in IDENTIFIER.findall(document):
        check(name.endswith("_") or name in recorded or name in known or metric(name, known),
              f"observability.md describes {name}, which there is not")
    for alert in alerts:
        check(f"`{alert}`" in document, f"observability.md does not say what to do about {alert}")
    unseen = {n for n in known if n.startswith("postern_")} - {metric(n, known) for n in shown}
    check(unseen <= {"postern_mappings", "postern_cache_entries"}, f"on no panel: {sorted(unseen)}")
    print("\n".join(FAILURES))
    print(f"{len(known)} metrics, {len(alerts)} alerts")
    print(f"{PASSED[0]} passed, {len(FAILURES)} failed")
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
