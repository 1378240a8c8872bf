#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status page of a daemon under a little traffic, in a real browser: it renders without an error, in light and
in dark, wide and narrow, asks nobody else for anything, and its text is all there. Screenshots are kept.
  status_page.py BINARY [FOLDER]"""
import base64
import contextlib
import html.parser
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib

ACCOUNT, PASSWORD = "somebody@example.com", "hunter2hunter2"


def backend(server):
    """Speaks just enough IMAP: every login is fine but those of `wrong`."""

    def serve(peer):
        with peer, peer.makefile("rwb", buffering=0) as stream:
            stream.write(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] backend\r\n")
            for line in stream:
                tag, _, rest = line.strip().partition(b" ")
                if rest.upper().startswith(b"CAPABILITY"):
                    stream.write(b"* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\r\n" + tag + b" OK done\r\n")
                elif rest.upper().startswith((b"AUTHENTICATE PLAIN", b"LOGIN")):
                    if rest.upper() == b"AUTHENTICATE PLAIN":
                        stream.write(b"+ \r\n")
                        rest = b"AUTHENTICATE PLAIN " + stream.readline().strip()
                    told = base64.b64decode(rest.split()[-1]) if rest.upper().startswith(b"AUTH") else rest
                    stream.write(tag + (b" NO [AUTHENTICATIONFAILED] wrong\r\n" if b"wrong" in told else b" OK in\r\n"))
                else:
                    stream.write(tag + b" OK done\r\n")

    while True:
        try:
            peer, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(peer,), daemon=True).start()


class Text(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.words, self.tags, self.outside = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.outside += [v for k, v in attrs if k in ("src", "href", "srcset", "action") and v != "/metrics"]

    def handle_data(self, data):
        self.words.append(data)


def pixels(path):
    """Mean brightness of a PNG's first rows, 0 to 255: 8 bits, RGB or RGBA, not interlaced."""
    with open(path, "rb") as f:
        data = f.read()
    width, height, depth, kind, _, _, laced = struct.unpack(">IIBBBBB", data[16:29])
    assert depth == 8 and kind in (2, 6) and laced == 0, (depth, kind)
    packed, at = b"", 8
    while at < len(data):
        length, = struct.unpack(">I", data[at:at + 4])
        if data[at + 4:at + 8] == b"IDAT":
            packed += data[at + 8:at + 8 + length]
        at += 12 + length
    size = 3 if kind == 2 else 4
    raw, before, total = zlib.decompress(packed), bytearray(width * size), 0
    rows = min(40, height)
    for y in range(rows):
        line = bytearray(raw[y * (width * size + 1) + 1:(y + 1) * (width * size + 1)])
        how = raw[y * (width * size + 1)]
        for i, value in enumerate(line):
            left = line[i - size] if i >= size else 0
            up, corner = before[i], before[i - size] if i >= size else 0
            guess = left + up - corner
            paeth = min((left, up, corner), key=lambda c: abs(guess - c))
            line[i] = (value + (0, left, up, (left + up) // 2, paeth)[how]) & 255
        before = line
        total += sum(line) / len(line)
    return width, height, total / rows


def browse(browser, url, *options):
    """A browser with a new profile each, which asks nobody but us."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
                   f"--user-data-dir={profile}", *options, url]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False,
                              env=os.environ | {"HOME": profile})


def screenshot(browser, url, path, size, dark):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
    result = browse(browser, url, "--hide-scrollbars", f"--window-size={size}", f"--screenshot={path}", "--enable-logging=stderr",
                    "--v=0", f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    complaints = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    assert os.path.exists(path), result.stderr[-2000:]
    assert not complaints, complaints
    return pixels(path)


def login(port, account, keep, context=None):
    client = socket.create_connection(("127.0.0.1", port), 5)
    if context:
        client = context.wrap_socket(client, server_hostname="mail.example.com")
    stream = client.makefile("rwb", buffering=0)
    stream.readline()
    stream.write(f"a LOGIN {account} {PASSWORD}\r\n".encode())
    while not stream.readline().startswith(b"a "):
        pass
    if keep:
        return client
    client.close()
    return None


def main(binary, keep=None):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        print("chromium is not installed")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        shots = keep or folder
        os.makedirs(shots, exist_ok=True)
        server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=backend, args=(server,), daemon=True).start()
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
        imap, imaps, mx, metrics, nobody = (s.getsockname()[1] for s in held)
        for s in held:
            s.close()
        with open(f"{folder}/accounts", "w", encoding="utf-8") as f:
            f.write("lost@example.com\tgone\n")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "10",
                        "-subj", "/CN=mail.example.com", "-addext", "subjectAltName=DNS:mail.example.com,DNS:imap.example.com",
                        "-keyout", f"{folder}/key", "-out", f"{folder}/cert"], check=True, capture_output=True)
        leg = {"port": server.getsockname()[1], "tls": "plain"}
        with open(f"{folder}/postern.yaml", "w", encoding="utf-8") as f:
            json.dump({
                "server": {"threads": 2, "shutdown_grace": "1s", "hostname": "mail.example.com", "host_down_threshold": 3, "host_down_min_clients": 0,
                           "host_down_cooldown": "10m"},
                "metrics": {"bind": f"127.0.0.1:{metrics}"},
                "tls": {"certificate": {"mail": {"cert": f"{folder}/cert", "key": f"{folder}/key"}}},
                "listener": {"imap": {"protocol": "imap", "bind": f"127.0.0.1:{imap}", "tls": "starttls", "max_connections": 64},
                             "imaps": {"protocol": "imap", "bind": f"127.0.0.1:{imaps}", "tls": "implicit"},
                             "mx": {"protocol": "smtp", "bind": f"127.0.0.1:{mx}", "tls": "plain"}},
                "capabilities": {"imap": {"allow_plain_auth_without_tls": True}},
                "mapping": {"source": "file", "file": {"path": f"{folder}/accounts"}},
                "routing": {"default_destination": "dovecot", "smtp_passthrough_destination": "dovecot"},
                "destination": {"dovecot": {"host": "127.0.0.1", "forwarding": "none", "allow_plaintext_auth": True,
                                            "protocol": {"imap": leg, "smtp": leg, "lmtp": leg}},
                                "gone": {"host": "127.0.0.1", "allow_plaintext_auth": True,
                                         "protocol": {"imap": {"port": nobody, "tls": "plain"}}}}}, f)
        with open(f"{folder}/log", "wb") as log:
            daemon = subprocess.Popen([binary, f"{folder}/postern.yaml"], stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{metrics}/"
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"{url}readyz", timeout=2).close()
                    break
                except OSError:
                    assert daemon.poll() is None, open(f"{folder}/log", encoding="utf-8").read()
                    time.sleep(0.05)
            held = [login(imap, ACCOUNT, True) for _ in range(5)]
            context = ssl.create_default_context(cafile=f"{folder}/cert")
            held += [login(imaps, ACCOUNT, True, context) for _ in range(3)]
            for _ in range(4):
                login(imap, "lost@example.com", False)
                login(imap, "wrong@example.com", False)
            time.sleep(0.5)
            login(imap, "brief@example.com", False)  # shorter than the time between two samples
            for _ in range(20):
                wrong = socket.create_connection(("127.0.0.1", imap), 5)
                wrong.sendall(b"a FROB\r\n" * 20)
                wrong.close()
            time.sleep(16)  # the second sample: curves begin
            with urllib.request.urlopen(url, timeout=5) as reply:
                page = reply.read().decode()
            parsed = Text()
            parsed.feed(page)
            words = " ".join(parsed.words)
            for wanted in ("mail.example.com", "down since", "imap.example.com", "command errors", "Failed behind it", "Resumed", "Connections turned away, by reason", "wolfSSL", "ready", "9 days", "TLS 1.3"):
                assert wanted in words, wanted
            for secret in (ACCOUNT, "somebody", PASSWORD, "lost@", "wrong@") + tuple(str(c.getsockname()[1]) for c in held):
                assert secret not in page, secret
            assert not parsed.outside and "script" not in parsed.tags and "img" not in parsed.tags, parsed.outside
            assert page.count("<svg") == 4 and page.count("<polyline") >= 6, page.count("<polyline")
            light = screenshot(browser, url, f"{shots}/light.png", "1100,1500", False)
            dark = screenshot(browser, url, f"{shots}/dark.png", "1100,1500", True)
            narrow = screenshot(browser, url, f"{shots}/narrow.png", "400,900", False)
            assert light[2] > 200 and narrow[2] > 200, (light, narrow)
            assert dark[2] < 60, dark
            # The browser's own view of the document, after layout: nothing was dropped, nothing was added.
            dom = browse(browser, url, "--dump-dom").stdout
            assert dom.count("<polyline") == page.count("<polyline") and "down since" in dom
        finally:
            daemon.terminate()
            daemon.wait(15)
            server.close()
    print(f"{len(page)} bytes of HTML; light, dark and narrow looked at")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
