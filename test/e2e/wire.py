# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of a wire in the test's hands: streams (plain and TLS) that tell an orderly end from a
reset and from silence, scripted backends, and PROXY protocol headers as bytes."""
import errno
import ipaddress
import select
import socket
import ssl
import struct
import threading
import time
import weakref

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


# --- PROXY protocol ---------------------------------------------------------------------------------

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL = 0x01, 0x02, 0x03, 0x04, 0x05, 0x20
# The header of scenario 140: 203.0.113.9:40123 to 198.51.100.7:993.
CLASSIC = SIGNATURE + bytes.fromhex("2111000CCB007109C63364079CBB03E1")


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def ssl_tlv(client=1, verify=0, subs=()):
    return tlv(SSL, struct.pack("!BI", client, verify) + b"".join(tlv(k, v) for k, v in subs))


def v1(source="203.0.113.9", destination="198.51.100.7", source_port=40123, destination_port=993):
    word = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {word} {source} {destination} {source_port} {destination_port}\r\n".encode()


def v2(source="203.0.113.9", destination="198.51.100.7", source_port=40123, destination_port=993, tlvs=b"",
       command=1, family=None, checksum=None, block=None):
    """checksum: None leaves the TLV out, True makes a right one, False a wrong one."""
    src, dst = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    family = (0x11 if src.version == 4 else 0x21) if family is None else family
    if block is None:
        block = src.packed + dst.packed + struct.pack("!HH", source_port, destination_port)
    if checksum is not None:
        tlvs += tlv(CRC32C, b"\0\0\0\0")
    header = SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(block) + len(tlvs)) + block + tlvs
    if checksum is not None:
        value = crc32c(header)
        header = header[:-4] + struct.pack("!I", value if checksum else value ^ 1)
    return header


class ProxySeen:
    """A PROXY header as a backend read it."""

    def __init__(self, stream):
        self.raw = stream.exactly(1)
        if self.raw == b"P":
            while not self.raw.endswith(b"\r\n"):
                assert len(self.raw) <= 107, "a version 1 line may have 107 bytes"
                self.raw += stream.exactly(1)
            self.version, self.tlvs = 1, []
            return
        self.raw += stream.exactly(15)
        assert self.raw[:12] == SIGNATURE, f"no PROXY signature: {self.raw!r}"
        self.version, self.command, self.family = 2, self.raw[12], self.raw[13]
        (length,) = struct.unpack("!H", self.raw[14:16])
        body = stream.exactly(length)
        self.raw += body
        size = {0x11: 4, 0x21: 16}.get(self.family)
        assert size, f"family {self.family:#x}"
        self.source = (str(ipaddress.ip_address(body[:size])), *struct.unpack("!H", body[2 * size:2 * size + 2]))
        self.destination = (str(ipaddress.ip_address(body[size:2 * size])),
                            *struct.unpack("!H", body[2 * size + 2:2 * size + 4]))
        self.tlvs = self.split(body[2 * size + 4:])

    @staticmethod
    def split(data):
        out = []
        while data:
            kind, length = struct.unpack("!BH", data[:3])
            assert len(data) >= 3 + length, "a TLV runs over"
            out.append((kind, data[3:3 + length]))
            data = data[3 + length:]
        return out

    def tlv(self, kind):
        found = [v for k, v in self.tlvs if k == kind]
        assert len(found) <= 1, f"TLV {kind:#x} comes {len(found)} times"
        return found[0] if found else None

    def checksum_is_right(self):
        at = self.raw.rindex(struct.pack("!BH", CRC32C, 4)) + 3
        (said,) = struct.unpack("!I", self.raw[at:at + 4])
        return said == crc32c(self.raw[:at] + b"\0\0\0\0" + self.raw[at + 4:])
