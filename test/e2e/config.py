# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations as trees: the base documents of the scenarios, changed by dotted keys, written as TOML."""
import json
import re


def toml_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_key(k)} = {toml_value(v)}" for k, v in value.items()) + " }"
    raise TypeError(type(value))


def toml_key(key):
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def toml(tree, path=()):
    """Values first, then one section a table: order inside a table is the order of insertion."""
    lines, tables = [], []
    for key, value in tree.items():
        if isinstance(value, dict):
            tables.append((key, value))
        else:
            lines.append(f"{toml_key(key)} = {toml_value(value)}")
    text = "\n".join(lines) + ("\n" if lines else "")
    for key, value in tables:
        inner = path + (key,)
        text += f"[{'.'.join(toml_key(k) for k in inner)}]\n" + toml(value, inner)
    return text


class Conf:
    """conf["listener.smtp.tls"] = "implicit". A part of the path may be a tuple element for odd names."""

    def __init__(self, tree=None):
        self.tree = tree or {}

    @staticmethod
    def parts(path):
        return path.split(".") if isinstance(path, str) else list(path)

    def __setitem__(self, path, value):
        *way, last = self.parts(path)
        node = self.tree
        for part in way:
            node = node.setdefault(part, {})
        node[last] = value

    def __getitem__(self, path):
        node = self.tree
        for part in self.parts(path):
            node = node[part]
        return node

    def __delitem__(self, path):
        *way, last = self.parts(path)
        node = self.tree
        for part in way:
            node = node[part]
        del node[last]

    def __contains__(self, path):
        try:
            self[path]
        except (KeyError, TypeError):
            return False
        return True

    def update(self, **tables):
        for key, value in tables.items():
            self[key] = value
        return self

    def text(self):
        return toml(self.tree)


def base(t, smtp=None, lmtp=None, tls=False, metrics=True):
    """The base of section I: destination `relay`, listeners `smtp` and `lmtp` as far as a backend port is given.
    `tls`: implicit TLS with a certificate for mail.example.com marked default."""
    conf = Conf()
    mapping = t.file("mappings.tsv", "")
    # All clients of a test have one address; where their share is the point, a test says so.
    conf["server"] = {"threads": 2, "shutdown_grace": "2s", "max_connections_per_client": 1_000_000}
    conf["mapping"] = {"source": "file", "normalize": "lowercase", "file": {"path": mapping}}
    conf["routing"] = {"default_destination": "relay", "smtp_passthrough_destination": "relay"}
    conf["destination.relay"] = {"host": "127.0.0.1", "forwarding": "none"}
    legs = {"smtp": smtp if smtp is not None else lmtp}
    if lmtp is not None:
        legs["lmtp"] = lmtp
    for protocol, port in legs.items():
        conf[f"destination.relay.protocol.{protocol}"] = {"port": getattr(port, "port", port), "tls": "plain"}
    for protocol, port in (("smtp", smtp), ("lmtp", lmtp)):
        if port is not None:
            conf[f"listener.{protocol}"] = {"protocol": protocol, "bind": [f"127.0.0.1:{t.port()}"],
                                            "tls": "implicit" if tls else "plain"}
    if tls:
        pair = t.pki.leaf("mail.example.com")
        conf["tls.certificate.main"] = {"cert": pair.chain, "key": pair.key, "default": True}
    if metrics:
        conf["metrics"] = {"bind": f"127.0.0.1:{t.port()}"}
    return conf
