# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of a wire in the test's hands: streams (plain and TLS) that tell an orderly end from a
reset and from silence, scripted backends; with the PROXY headers of introduction.py at hand."""
import errno
import select
import socket
import ssl
import struct
import threading
import time
import weakref

from introduction import (  # noqa: F401  part of what tests find here
    ALPN, AUTHORITY, CLASSIC, CRC32C, NOOP, SIGNATURE, SSL, UNIQUE_ID, ProxySeen, crc32c, ssl_tlv, tlv, v1, v2)

OPEN = weakref.WeakSet()  # every stream and backend of this process, to be closed at its end
PATIENCE = 10.0  # seconds until a missing byte is a failure; the runner raises it for sanitized builds


class Silence(AssertionError):
    """Nothing came in time."""


class Reset(AssertionError):
    """The other side reset the connection."""


class Stream:
    """A TCP connection. recv() gives b"" at an orderly end and raises Reset or Silence otherwise."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""
        OPEN.add(self)
        sock.setblocking(True)
        sock.settimeout(PATIENCE)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def local(self):
        return self.sock.getsockname()[:2]

    @property
    def peer(self):
        return self.sock.getpeername()[:2]

    def send(self, data):
        try:
            self.sock.sendall(data.encode() if isinstance(data, str) else data)
        except (ConnectionResetError, BrokenPipeError) as e:
            raise Reset(str(e)) from e
        return self

    def raw_recv(self, size, timeout):
        self.sock.settimeout(timeout)
        try:
            return self.sock.recv(size)
        except ConnectionResetError as e:
            raise Reset("reset by the other side") from e
        except (TimeoutError, socket.timeout) as e:
            raise Silence(f"nothing for {timeout:.1f} s") from e
        finally:
            self.sock.settimeout(PATIENCE)

    def recv(self, size=65536, timeout=None):
        if self.buffer:
            data, self.buffer = self.buffer[:size], self.buffer[size:]
            return data
        return self.raw_recv(size, PATIENCE if timeout is None else timeout)

    def exactly(self, size, timeout=None):
        parts = []
        while size:
            data = self.recv(min(size, 1 << 20), timeout)
            if not data:
                raise AssertionError(f"the stream ended {size} bytes early, after {b''.join(parts)[-200:]!r}")
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def expect(self, data, timeout=None):
        data = data.encode() if isinstance(data, str) else data
        got = self.exactly(len(data), timeout)
        assert got == data, f"expected {data[:200]!r}, got {got[:200]!r}"
        return self

    def line(self, timeout=None):
        while b"\n" not in self.buffer:
            data = self.raw_recv(65536, PATIENCE if timeout is None else timeout)
            if not data:
                raise AssertionError(f"the stream ended inside a line: {self.buffer!r}")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r").decode(errors="replace")

    def rest(self, timeout=None):
        """Everything up to the orderly end."""
        parts = []
        while data := self.recv(1 << 20, timeout):
            parts.append(data)
        return b"".join(parts)

    def expect_eof(self, timeout=None):
        data = self.recv(timeout=timeout)
        assert data == b"", f"expected the end, got {data[:200]!r}"
        return self

    def expect_gone(self, timeout=None):
        """The end in any form, an orderly one or a reset, without a byte before it."""
        try:
            self.expect_eof(timeout)
        except Reset:
            pass
        return self

    def expect_reset(self, timeout=None):
        try:
            data = self.recv(timeout=timeout)
        except Reset:
            return self
        raise AssertionError(f"expected a reset, got {'the orderly end' if not data else data[:200]!r}")

    def silent(self, seconds):
        try:
            data = self.recv(timeout=seconds)
        except Silence:
            return self
        raise AssertionError(f"expected silence, got {'the end' if not data else data[:200]!r}")

    def readable(self, seconds=0):
        return bool(self.buffer) or bool(select.select([self.sock], [], [], seconds)[0])

    def finish(self):
        """Sends the end; the other direction stays open."""
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()


class TlsStream(Stream):
    """TLS over a socket with every step visible: a close_notify is not the same as a bare FIN (`ragged`)."""

    def __init__(self, stream, context, server_side=False, server_name=None, session=None):
        super().__init__(stream.sock)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if stream.buffer:
            self.incoming.write(stream.buffer)
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side,
                                    server_hostname=server_name, session=session)
        self.ragged = False
        self.ended = False

    def flush(self):
        if self.outgoing.pending:
            super().send(self.outgoing.read())

    def pump(self, step, timeout=None):
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
        while True:
            try:
                result = step()
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = Stream.raw_recv(self, 65536, max(0.001, deadline - time.monotonic()))
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            except ssl.SSLError:
                try:
                    self.flush()
                except Reset:
                    pass
                raise

    def handshake(self, timeout=None):
        self.pump(self.tls.do_handshake, timeout)
        return self

    def send(self, data):
        data = data.encode() if isinstance(data, str) else data
        view = memoryview(data)
        while view:
            sent = self.tls.write(view[:1 << 20])
            view = view[sent:]
            self.flush()
        self.flush()
        return self

    def raw_recv(self, size, timeout):
        if self.ended:
            return b""
        try:
            data = self.pump(lambda: self.tls.read(size), timeout)
        except ssl.SSLEOFError:
            data, self.ragged = b"", True
        except ssl.SSLZeroReturnError:
            data = b""
        self.ended = not data
        return data

    def finish(self):
        """Sends close_notify; the TCP connection and the other direction stay open."""
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass
        self.flush()
        return self

    def expect_notified_eof(self, timeout=None):
        self.expect_eof(timeout)
        assert not self.ragged, "the stream ended without close_notify"
        return self


def connect(port, host="127.0.0.1", source=None, timeout=None, receive_buffer=None):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(PATIENCE if timeout is None else timeout)
    if source:
        sock.bind((source, 0))
    sock.connect((host, port))
    return Stream(sock)


def tls_connect(port, context, server_name=None, before=b"", host="127.0.0.1", session=None):
    stream = connect(port, host)
    if before:
        stream.send(before)
    return TlsStream(stream, context, server_name=server_name, session=session).handshake()


class Backend:
    """A listening socket in the test's hands: nothing is accepted unless the test does it."""

    def __init__(self, port=0, host="127.0.0.1", backlog=2048, receive_buffer=None):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.bind((host, port))
        self.sock.listen(backlog)
        self.port = self.sock.getsockname()[1]
        self.threads = []
        OPEN.add(self)

    def accept(self, timeout=None):
        self.sock.settimeout(PATIENCE if timeout is None else timeout)
        try:
            conn, _ = self.sock.accept()
        except (TimeoutError, socket.timeout) as e:
            raise Silence("no connection came to the backend") from e
        return Stream(conn)

    def accept_tls(self, context, timeout=None):
        return TlsStream(self.accept(timeout), context, server_side=True).handshake(timeout)

    def nothing(self, seconds=0.3):
        try:
            stream = self.accept(seconds)
        except Silence:
            return
        raise AssertionError(f"a connection came to the backend, from {stream.peer}")

    def serve(self, handler, threads=True):
        """Runs handler(stream) for every connection until close(); errors of broken connections are its own."""

        def one(stream):
            try:
                handler(stream)
            except (AssertionError, OSError, ssl.SSLError):
                pass
            finally:
                stream.close()

        def loop():
            while True:
                try:
                    self.sock.settimeout(None)
                    conn, _ = self.sock.accept()
                except OSError as e:
                    if e.errno in (errno.EBADF, errno.EINVAL):
                        return
                    continue
                if threads:
                    threading.Thread(target=one, args=(Stream(conn),), daemon=True).start()
                else:
                    one(Stream(conn))

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        self.threads.append(thread)
        return self

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


def greeter(greeting=b"220 relay\r\n"):
    """A backend that greets, then echoes to the end."""

    def handle(stream):
        stream.send(greeting)
        while data := stream.recv(timeout=120):
            stream.send(data)
        stream.finish()

    return handle
