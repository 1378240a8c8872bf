# SPDX-License-Identifier: GPL-3.0-or-later
"""A relay that does one thing wrong, to prove that the benchmark would notice.

  spoiler.py LISTEN_PORT BACKEND_PORT flip|drop|repeat|cut down|up
"""
import selectors
import socket
import sys

FAULTS = {
    "flip": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "drop": lambda data: data[:-1],
    "repeat": lambda data: data + data[-1:],
    "cut": lambda data: None,
}


class Relay:
    def __init__(self, port, backend, fault, direction):
        self.backend, self.fault, self.direction = backend, FAULTS[fault], direction
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", port))
        self.selector.register(self.listener, selectors.EVENT_READ, None)
        self.carried = {}  # bytes each way of each session so far

    def run(self):
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    self.accept()
                elif key.fileobj.fileno() >= 0:
                    self.carry(key.fileobj, *key.data)

    def accept(self):
        client, _ = self.listener.accept()
        backend = socket.create_connection(("127.0.0.1", self.backend))
        self.selector.register(client, selectors.EVENT_READ, (backend, "up"))
        self.selector.register(backend, selectors.EVENT_READ, (client, "down"))

    def carry(self, source, sink, direction):
        try:
            data = source.recv(4096)
        except ConnectionError:
            data = b""
        before = self.carried.get(source, 0)
        self.carried[source] = before + len(data)
        # The first exchange, which opens the session, passes: the work itself must be checked.
        if data and direction == self.direction and before <= 20000 < before + len(data):
            data = self.fault(data)
        try:
            if data:
                sink.sendall(data)
                return
        except ConnectionError:
            pass
        for end in (source, sink):
            self.selector.unregister(end)
            self.carried.pop(end, None)
            end.close()


if __name__ == "__main__":
    Relay(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]).run()
