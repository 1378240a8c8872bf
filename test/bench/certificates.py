# SPDX-License-Identifier: GPL-3.0-or-later
"""One authority and one certificate a key type, the same files for every peer and the stub."""
import subprocess
from pathlib import Path

NAME = "bench.test"
KEYS = {
    "ecdsa": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
}


class Certificates:
    """Paths by key type: chain(type), key(type), pem(type) with both; and the authority."""

    def __init__(self, folder, maker):
        """maker: the program that makes them by the thousand."""
        self.folder, self.maker = Path(folder), maker
        self.authority = self.folder / "authority.pem"
        self._openssl("genpkey", *KEYS["ecdsa"], "-out", "authority.key")
        self._openssl("req", "-x509", "-new", "-key", "authority.key", "-subj", "/CN=bench authority",
                      "-days", "30", "-out", "authority.pem")
        (self.folder / "extensions").write_text(
            f"subjectAltName=DNS:{NAME}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
        for kind, how in KEYS.items():
            self._openssl("genpkey", *how, "-out", f"{kind}.key")
            self._openssl("req", "-new", "-key", f"{kind}.key", "-subj", f"/CN={NAME}", "-out", f"{kind}.csr")
            self._openssl("x509", "-req", "-in", f"{kind}.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
                          "-CAcreateserial", "-days", "30", "-extfile", "extensions", "-out", f"{kind}.crt")
            self.pem(kind).write_text(self.chain(kind).read_text() + self.key(kind).read_text())

    def chain(self, kind):
        return self.folder / f"{kind}.crt"

    def key(self, kind):
        return self.folder / f"{kind}.key"

    def pem(self, kind):
        return self.folder / f"{kind}.pem"

    def many(self, count):
        """Paths of h0.pem, h1.pem ...: certificate and key for h0.bench.test and so on, alone in their folder."""
        folder = self.folder / f"names-{count}"
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o755)
            subprocess.run([self.maker, folder, str(count), self.authority, self.folder / "authority.key"], check=True)
        return [folder / f"h{number}.pem" for number in range(count)]

    def _openssl(self, *words):
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)
