# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis in the test's hands: it answers as told, late, not at all, or with nonsense, and keeps what it was asked."""
import socket
import threading
import time


class FakeRedis:
    """`mode` may be changed at any time:
    ok         answers from `accounts` (key to value)
    silent     says nothing until the mode changes, as a process that is stopped: then it answers in order
    slow       answers after `delay` seconds
    nonsense   answers with bytes of no protocol
    wrong      answers with a type that is no text
    error      answers with `error`
    closing    ends each connection that asks something"""

    def __init__(self, port, accounts=None, mode="ok"):
        self.port, self.accounts, self.mode = port, dict(accounts or {}), mode
        self.delay, self.error = 0.0, "LOADING Redis is loading the dataset in memory"
        self.asked, self.connections, self.lock = [], 0, threading.Lock()
        self.server, self.streams = None, set()
        self.listen()

    def listen(self):
        self.server = socket.create_server(("127.0.0.1", self.port), backlog=1000)
        threading.Thread(target=self.accept, args=(self.server,), daemon=True).start()

    def accept(self, server):
        while True:
            try:
                stream, _ = server.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self.streams.add(stream)
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def kill(self):
        """The process is gone: connections are reset, new ones refused."""
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        with self.lock:
            streams, self.streams = self.streams, set()
        for stream in streams:
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            stream.close()

    def serve(self, stream):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = b""
        try:
            while data := stream.recv(65536):
                buffer += data
                while True:
                    command, buffer = self.take(buffer)
                    if command is None:
                        break
                    if not self.answer(stream, command):
                        return
        except OSError:
            pass
        finally:
            stream.close()

    @staticmethod
    def take(buffer):
        """One whole command off the front of a buffer, or None."""
        head, found, rest = buffer.partition(b"\r\n")
        if not found or not head.startswith(b"*"):
            return None, buffer
        words = []
        for _ in range(int(head[1:])):
            size, found, rest = rest.partition(b"\r\n")
            if not found or len(rest) < int(size[1:]) + 2:
                return None, buffer
            words.append(rest[:int(size[1:])])
            rest = rest[int(size[1:]) + 2:]
        return words, rest

    def answer(self, stream, command):
        verb = command[0].upper()
        with self.lock:
            self.asked.append(command)
        while self.mode == "silent":
            time.sleep(0.01)
        mode = self.mode
        if mode == "closing":
            return False
        if mode == "slow":
            time.sleep(self.delay)
        if mode == "nonsense":
            stream.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            return True
        if mode == "error":
            stream.sendall(b"-" + self.error.encode() + b"\r\n")
            return True
        if verb == b"ROLE":
            stream.sendall(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")
        elif verb in (b"AUTH", b"SELECT", b"HELLO", b"CLIENT"):
            stream.sendall(b"+OK\r\n")
        elif verb == b"PING":
            stream.sendall(b"+PONG\r\n")
        elif verb in (b"GET", b"MGET"):
            values = [self.value(key, mode) for key in command[1:]]
            stream.sendall((b"*%d\r\n" % len(values) if verb == b"MGET" else b"") + b"".join(values))
        else:
            stream.sendall(b"-ERR unknown command\r\n")
        return True

    def value(self, key, mode):
        if mode == "wrong":
            return b"*1\r\n:1\r\n"
        value = self.accounts.get(key.decode("utf-8", "replace"))
        return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value.encode())

    def questions(self, name=None):
        """The keys that were asked for."""
        with self.lock:
            keys = [k.decode("utf-8", "replace") for c in self.asked if c[0].upper() in (b"GET", b"MGET") for k in c[1:]]
        return [k for k in keys if name is None or k == name]
