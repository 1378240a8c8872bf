# SPDX-License-Identifier: GPL-3.0-or-later
"""A name server on loopback that answers, hangs or lies as told, and a daemon that has only it: its /etc is a folder
of the test's in a mount namespace of its own."""
import collections
import os
import socket
import struct
import subprocess
import threading
import time

from harness import Skip

A, AAAA, CNAME = 1, 28, 5
NXDOMAIN, SERVFAIL, REFUSED = 3, 2, 5


def labels(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.rstrip(".").split(".")) + b"\0"


def record(kind, data, ttl=60, name=b"\xc0\x0c"):
    return name + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def packed(address):
    v6 = ":" in address
    return (AAAA if v6 else A), socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, address)


class Question:
    def __init__(self, data):
        self.data, self.id = data, data[:2]
        parts, at = [], 12
        while data[at]:
            parts.append(data[at + 1:at + 1 + data[at]].decode())
            at += 1 + data[at]
        self.name = ".".join(parts).lower()
        self.kind = struct.unpack("!H", data[at + 1:at + 3])[0]
        self.section = data[12:at + 5]

    def reply(self, records=(), code=0, flags=0x8180, count=None):
        return self.id + struct.pack("!HHHHH", flags | code, 1, len(records) if count is None else count, 0, 0) + \
            self.section + b"".join(records)


class NameServer:
    """`says[name]`: a list of addresses; a code; None: no answer, ever; or a function of the question that gives the
    reply's bytes. A name it does not know does not exist. May be changed at any time."""

    def __init__(self, t):
        index = (t.port() - 10000) // 200  # no two tests have the same
        self.address, self.t = f"127.53.{index}.53", t
        self.says, self.asked, self.delay = {}, collections.Counter(), 0
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for sock in (self.udp, self.tcp):
            sock.bind((self.address, 53))
        self.tcp.listen(16)
        for work in (self.datagrams, self.streams):
            threading.Thread(target=work, daemon=True).start()
        self.etc = t.folder_for("etc")
        t.file("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
        t.file("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
        t.file("etc/passwd", "root:x:0:0:root:/:/bin/sh\n")
        self.configure()
        if os.path.exists("/etc/ld.so.cache"):
            t.file("etc/ld.so.cache", open("/etc/ld.so.cache", "rb").read())

    def configure(self, options="timeout:30 attempts:5"):
        """By default one question that is not answered takes minutes."""
        self.t.file("etc/resolv.conf.new", f"nameserver {self.address}\noptions {options}\n")
        os.rename(f"{self.etc}/resolv.conf.new", f"{self.etc}/resolv.conf")

    def answer(self, data, udp):
        question = Question(data)
        self.asked[question.name] += 1
        said = self.says.get(question.name, NXDOMAIN)
        if callable(said):
            return said(question)
        if said is None:
            return None
        if isinstance(said, int):
            return question.reply(code=said)
        records = [record(kind, data) for kind, data in map(packed, said) if kind == question.kind]
        whole = question.reply(records)
        return question.reply(flags=0x8380) if udp and len(whole) > 512 else whole

    def datagrams(self):
        while True:
            data, peer = self.udp.recvfrom(4096)
            threading.Thread(target=self.one_datagram, args=(data, peer), daemon=True).start()

    def one_datagram(self, data, peer):
        said = self.answer(data, True)
        time.sleep(self.delay)
        if said is not None:
            self.udp.sendto(said, peer)

    def streams(self):
        while True:
            sock, _ = self.tcp.accept()
            threading.Thread(target=self.one_stream, args=(sock,), daemon=True).start()

    def one_stream(self, sock):
        with sock:
            while size := sock.recv(2, socket.MSG_WAITALL):
                said = self.answer(sock.recv(struct.unpack("!H", size)[0], socket.MSG_WAITALL), False)
                if said is None:
                    time.sleep(3600)
                sock.sendall(struct.pack("!H", len(said)) + said)

    def wrap(self):
        wrap = ("unshare", "-m", "sh", "-c", f'mount --bind {self.etc} /etc && exec "$@"', "sh")
        if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode:
            raise Skip("no mount namespace of its own to be had")
        return wrap
