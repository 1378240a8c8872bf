# SPDX-License-Identifier: GPL-3.0-or-later
"""PROXY protocol headers as bytes: made, broken on purpose, and read back as a backend reads them."""
import ipaddress
import struct

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
