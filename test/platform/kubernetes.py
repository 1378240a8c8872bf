#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every manifest of deploy/kubernetes, rendered by kustomize's and Helm's own libraries: valid by the real schemas,
consistent in itself, and its configuration passes `postern check`. And the checks can tell.
  kubernetes.py BINARY | --tools
The renderer is compiled from pinned Go modules and the schemas come from a pinned npm package; both stay in
build-kubernetes/, so only the first run asks the registries: with --tools that is all it does."""
import copy
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import yaml

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE, PLACE, SOURCE = f"{TOP}/test/platform/kubernetes", f"{TOP}/build-kubernetes", f"{TOP}/deploy/kubernetes"
RENDER = f"{PLACE}/render"
FAILURES, PASSED = [], [0]


class Unavailable(Exception):
    pass


def check(right, what):
    if right:
        PASSED[0] += 1
    else:
        FAILURES.append(what)
    return right


# --- the tools ------------------------------------------------------------------------------------------

def fetch(command, folder, what, limit, **environment):
    """A registry that does not answer is asked three times; what arrived stays in the tool's own cache."""
    if "HOME" not in os.environ:  # where that would be
        environment["HOME"] = PLACE
    trusted = "/etc/ssl/certs/ca-certificates.crt"
    if os.path.exists(trusted):  # of the machine; node's own list knows no local authority
        environment["NODE_EXTRA_CA_CERTS"] = os.environ.get("NODE_EXTRA_CA_CERTS", trusted)
    for pause in (5, 20, 0):
        try:
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit, check=False,
                                    env=os.environ | environment)
            if result.returncode == 0:
                return
            print(result.stdout[-3000:], result.stderr[-3000:])
        except subprocess.TimeoutExpired as error:
            print(error)
        time.sleep(pause)
    raise Unavailable(f"{what} could not be had from the registry, and no earlier run left it here")


def current(names):
    return all(os.path.exists(f"{PLACE}/{n}") and filecmp.cmp(f"{HERE}/{n}", f"{PLACE}/{n}", False) for n in names)


def provide():
    missing = [p for p in ("go", "node", "npm") if not shutil.which(p)]
    if missing:
        raise Unavailable("not installed: " + ", ".join(missing))
    os.makedirs(PLACE, exist_ok=True)
    schemas, renderer = ("package.json", "package-lock.json"), ("go.mod", "go.sum", "main.go")
    if not (current(schemas) and os.path.exists(f"{PLACE}/node_modules/kubernetes-models/package.json")):
        for name in schemas:
            shutil.copy(f"{HERE}/{name}", PLACE)
        fetch(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"], PLACE, "the package of schemas", 300)
    if not (current(renderer) and os.path.exists(RENDER)):
        fetch(["go", "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", RENDER, "."], HERE, "the renderer's modules", 1800,
              GOFLAGS="-buildvcs=false", CGO_ENABLED="0", GOTOOLCHAIN="local", GOGC="400")
        for name in renderer:
            shutil.copy(f"{HERE}/{name}", PLACE)


def render(*arguments):
    result = subprocess.run([RENDER, *arguments], capture_output=True, text=True, timeout=60, check=False)
    if result.returncode != 0:
        return None, result.stderr
    return [d for d in yaml.safe_load_all(result.stdout) if d], ""


def complaints(objects):
    result = subprocess.run(["node", f"{HERE}/schema.mjs", PLACE], input=json.dumps(objects), capture_output=True,
                            text=True, timeout=60, check=False)
    return result.stdout.splitlines()[:-1] + ([result.stderr] if result.stderr else [])


# --- what no schema knows -----------------------------------------------------------------------------

def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)?", str(text)).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, None: 1}[unit]


def of_kind(objects, *kinds):
    return [o for o in objects if o["kind"] in kinds]


def covers(selector, labels):
    return all(labels.get(k) == v for k, v in selector.items())


def consistency(objects):
    """What is wrong, a line each."""
    wrong = []

    def want(right, what):
        if not right:
            wrong.append(what)

    workload = next(o for o in of_kind(objects, "Deployment", "StatefulSet"))
    pod, labels = workload["spec"]["template"]["spec"], workload["spec"]["template"]["metadata"]["labels"]
    containers = {c["name"]: c for c in pod["containers"]}
    postern, sidecar = containers["postern"], len(containers) > 1
    config = next(o for o in of_kind(objects, "ConfigMap"))
    tree = yaml.safe_load(config["data"]["postern.yaml"])
    ports = {p["name"]: p["containerPort"] for p in postern["ports"]}

    want(covers(workload["spec"]["selector"]["matchLabels"], labels), "the workload does not select its pods")
    for service in of_kind(objects, "Service"):
        want(covers(service["spec"]["selector"], labels), f"service {service['metadata']['name']} selects nothing")
        for port in service["spec"]["ports"]:
            want(port["targetPort"] in ports, f"service port {port['name']} leads nowhere")
            want(port.get("appProtocol"), f"port {port['name']} without appProtocol: a mesh would sniff")
            want(port["name"].startswith("tcp-") and port["appProtocol"] == "tcp" or port["name"] == "http-metrics",
                 f"port {port['name']}: a server-first protocol that is not called tcp")
    for kind, way in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for o in of_kind(objects, kind):
            chosen = o["spec"][way].get("matchLabels")
            want(chosen and covers(chosen, labels), f"{kind} selects {chosen}")
    for o in of_kind(objects, "NetworkPolicy"):
        allowed = {p["port"] for rule in o["spec"]["ingress"] for p in rule["ports"]}
        want(allowed == set(ports), f"the network policy admits {sorted(allowed)}, the pod has {sorted(ports)}")
        if "Egress" in o["spec"]["policyTypes"]:
            out = {p["port"] for rule in o["spec"]["egress"] for p in rule["ports"]}
            legs = {leg["port"] for d in tree["destination"].values() for leg in d["protocol"].values()}
            want(legs <= out, f"the network policy keeps Postern from its backends: {sorted(legs - out)}")
    for o in of_kind(objects, "HorizontalPodAutoscaler"):
        target = o["spec"]["scaleTargetRef"]
        want((target["kind"], target["name"]) == (workload["kind"], workload["metadata"]["name"]), "the autoscaler scales nothing")
        want("replicas" not in workload["spec"], "replicas and an autoscaler pull against each other")
    for o in of_kind(objects, "ServiceMonitor"):
        found = [s for s in of_kind(objects, "Service") if covers(o["spec"]["selector"]["matchLabels"], s["metadata"].get("labels", {}))]
        want(len(found) == 1 and {e["port"] for e in o["spec"]["endpoints"]} <= {p["name"] for p in found[0]["spec"]["ports"]},
             "the service monitor finds no service")
    for o in of_kind(objects, "PrometheusRule"):
        with open(f"{TOP}/deploy/prometheus/postern.rules.yaml", encoding="utf-8") as f:
            want(o["spec"] == yaml.safe_load(f), "the rules are not those of deploy/prometheus")

    bound = {int(b.rsplit(":", 1)[1]) for l in tree["listener"].values() for b in l["bind"]}
    want(bound == {p for n, p in ports.items() if n != "http-metrics"}, f"listeners bind {sorted(bound)}, the pod shows {ports}")
    want(int(tree["metrics"]["bind"].rsplit(":", 1)[1]) == ports["http-metrics"], "metrics listen elsewhere")
    want(all(p >= 1024 for p in ports.values()), "a port that needs a capability")
    for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        get = postern[probe]["httpGet"]
        want(get["path"] == path and get["port"] == "http-metrics", f"{probe} asks {get}")

    def pause(container):
        return container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)

    grace, needed = pod["terminationGracePeriodSeconds"], pause(postern) + seconds(tree["server"]["shutdown_grace"])
    want(needed + 5 <= grace <= needed + 60, f"terminationGracePeriodSeconds {grace} does not fit preStop and shutdown_grace {needed}")
    for name, container in containers.items():
        want(name == "postern" or needed <= pause(container) <= grace, f"{name} leaves before the sidecar has drained")
    security = postern["securityContext"] | pod.get("securityContext", {})
    want(security.get("runAsNonRoot") and security.get("runAsUser") == 2000 and security.get("readOnlyRootFilesystem") and
         security.get("allowPrivilegeEscalation") is False and security["capabilities"] == {"drop": ["ALL"]} and
         security["seccompProfile"] == {"type": "RuntimeDefault"}, f"security context: {security}")
    want(pod.get("serviceAccountName") in {o["metadata"]["name"] for o in of_kind(objects, "ServiceAccount")}, "no service account")
    mounts = {m["name"]: m["mountPath"] for m in postern["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["volumes"]}
    want(volumes["config"]["configMap"]["name"] == config["metadata"]["name"], "the mounted ConfigMap is another")
    want(not any(m.get("subPath") for m in postern["volumeMounts"]), "subPath mounts are never updated")
    want(postern["args"] in (["run", filtered, f"{mounts['config']}/postern.yaml"] for filtered in ("--seccomp", "--seccomp=off")),
         f"runs {postern['args']}")
    secret, group = volumes["tls"]["secret"], pod.get("securityContext", {}).get("fsGroup")
    want(secret.get("defaultMode") == 0o440 and group,
         f"the private key has mode {secret.get('defaultMode', 0o644):o} and group {group or 'root'}: Postern would warn of it, or cannot read it")
    for o in of_kind(objects, "Certificate"):
        want(o["spec"]["secretName"] == volumes["tls"]["secret"]["secretName"], "the certificate goes to another Secret")
    for entry in tree["tls"]["certificate"].values():
        want((entry["cert"], entry["key"]) == (f"{mounts['tls']}/tls.crt", f"{mounts['tls']}/tls.key"), "not cert-manager's file names")
    announced = any("proxy-protocol" in k for s in of_kind(objects, "Service") for k in s["metadata"].get("annotations", {}))
    for name, listener in tree["listener"].items():
        want((listener.get("proxy_protocol") == "required") == announced,
             f"{name}: the balancer {'sends' if announced else 'does not send'} PROXY headers, the listener disagrees")
    for o in of_kind(objects, "NetworkPolicy"):
        asked = any("ipBlock" in peer for rule in o["spec"]["ingress"] for peer in rule.get("from", []))
        want(asked == announced, "the network policy keeps the balancer's health checks out, or lets somebody else in")
    for name, destination in tree["destination"].items():
        want(not destination.get("allow_plaintext_auth") or sidecar and destination["host"] == "127.0.0.1",
             f"{name}: allow_plaintext_auth outside a pod's loopback")
    return wrong


def passes(binary, objects, folder, title):
    """`postern check` of the ConfigMap as the pod would see it."""
    data = next(o for o in of_kind(objects, "ConfigMap"))["data"]
    for name, text in data.items():
        text = text.replace("/etc/postern/config", folder).replace("/etc/postern/tls", folder)
        with open(f"{folder}/{name}", "w", encoding="utf-8") as f:
            f.write(text)
    result = subprocess.run([binary, "check", f"{folder}/postern.yaml"], capture_output=True, text=True, timeout=20, check=False)
    check(result.returncode == 0, f"{title}: postern check: {result.stderr}")


def whole(binary, title, folder, *arguments):
    objects, error = render(*arguments)
    if not check(objects is not None, f"{title} cannot be rendered: {error}"):
        return None
    found = complaints(objects) + consistency(objects)
    check(not found, f"{title}:\n  " + "\n  ".join(found))
    passes(binary, objects, folder, title)
    print(f"{title}: {', '.join(sorted(o['kind'] for o in objects))}")
    return objects


def planted(objects):
    """A mistake in each place that is checked must be noticed."""
    def at(tree, kind):
        return next(o for o in tree if o["kind"] == kind)

    def container(tree):
        return at(tree, "Deployment")["spec"]["template"]["spec"]["containers"][0]

    schema = {
        "a field nobody knows": lambda t: container(t)["livenessProbe"]["httpGet"].update(hots="x"),
        "text for a number": lambda t: container(t)["ports"][0].update(containerPort="imaps"),
        "an unknown field of an operator's object": lambda t: at(t, "ServiceMonitor")["spec"]["endpoints"][0].update(inteval="1s"),
        "a missing field": lambda t: at(t, "Certificate")["spec"].pop("issuerRef"),
        "an unknown kind": lambda t: at(t, "Service").update(kind="Servise"),
    }
    sense = {
        "a service without pods": lambda t: at(t, "Service")["spec"]["selector"].update(x="y"),
        "too short a grace": lambda t: at(t, "Deployment")["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=30),
        "a port nobody binds": lambda t: container(t)["ports"][0].update(containerPort=10994),
        "clear passwords at the edge": lambda t: at(t, "ConfigMap")["data"].update({"postern.yaml": at(t, "ConfigMap")["data"][
            "postern.yaml"].replace("forwarding: proxy", "forwarding: proxy\n    allow_plaintext_auth: true", 1)}),
        "rules that drifted": lambda t: at(t, "PrometheusRule")["spec"]["groups"].pop(),
        "a balancer with headers nobody reads": lambda t: at(t, "Service")["metadata"].update(
            annotations={"service.beta.kubernetes.io/aws-load-balancer-proxy-protocol": "*"}),
        "a private key that everybody can read": lambda t: next(v for v in at(t, "Deployment")["spec"]["template"]["spec"]["volumes"]
                                                                 if v["name"] == "tls")["secret"].update(defaultMode=0o444),
        "a subPath": lambda t: container(t)["volumeMounts"][0].update(subPath="postern.yaml"),
    }
    for notices, mistakes in ((complaints, schema), (consistency, sense)):
        for what, make in mistakes.items():
            tree = copy.deepcopy(objects)
            make(tree)
            check(notices(tree), f"not noticed: {what}")


def main(binary):
    try:
        provide()
    except Unavailable as error:
        print(error)
        return 77
    if binary == "--tools":
        return 0
    binary = os.path.abspath(binary)
    chart = f"{SOURCE}/chart"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                        "/CN=mail.example.com", "-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.crt"], check=True, capture_output=True)
        edge = whole(binary, "kustomize, standalone", folder, "kustomize", f"{SOURCE}/overlays/standalone")
        for overlay in sorted(os.listdir(f"{SOURCE}/overlays")):
            if overlay != "standalone":
                whole(binary, f"kustomize, {overlay}", folder, "kustomize", f"{SOURCE}/overlays/{overlay}")
        whole(binary, "helm, as it comes", folder, "helm", chart, "edge", "mail-edge")
        for values in sorted(os.listdir(f"{chart}/ci")):
            whole(binary, f"helm, {values}", folder, "helm", chart, "edge", "mail-edge", f"{chart}/ci/{values}")
        for wrong, text in (("mode", "mode: both"), ("unknown value", "replica: 3"), ("word for a switch", "seccomp: yes"), ("privileged port", "ports: [{name: tcp-x, port: 1, containerPort: 25}]"),
                            ("sidecar without backend", "mode: sidecar")):
            with open(f"{folder}/values.yaml", "w", encoding="utf-8") as f:
                f.write(text)
            check(render("helm", chart, "edge", "mail-edge", f"{folder}/values.yaml")[0] is None, f"the chart takes a wrong {wrong}")
    if edge:
        planted(edge)
        wanted = {"Deployment", "Service", "ConfigMap", "Certificate", "PodDisruptionBudget", "HorizontalPodAutoscaler",
                  "NetworkPolicy", "ServiceMonitor", "PrometheusRule", "ServiceAccount", "Namespace"}
        check({o["kind"] for o in edge} == wanted, f"standalone has {sorted({o['kind'] for o in edge})}")
    print("\n".join(FAILURES))
    print(f"{PASSED[0]} passed, {len(FAILURES)} failed")
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
