# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for the tests, made with openssl(1): one authority a run, leaves as each test wants them."""
import hashlib
import os
import ssl
import subprocess
import time
from dataclasses import dataclass


@dataclass
class Pair:
    cert: str  # the leaf alone
    chain: str  # leaf and issuer, as a daemon is given it
    key: str
    names: tuple = ()

    @property
    def der(self):
        with open(self.cert, encoding="ascii") as f:
            return ssl.PEM_cert_to_DER_cert(f.read())

    @property
    def sha256(self):
        return hashlib.sha256(self.der).hexdigest()


def openssl(*args):
    done = subprocess.run(["openssl", *args], capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {' '.join(args)}: {done.stderr.decode()}")
    return done.stdout


def prepare(folder):
    """Once a run: the authorities, and keys to share between leaves (making keys is the slow part)."""
    os.makedirs(folder, exist_ok=True)
    for i in range(4):
        openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", f"{folder}/ec{i}.key")
    for i in range(2):
        openssl("genrsa", "-traditional", "-out", f"{folder}/rsa{i}.key", "2048")
    for name in ("ca", "other-ca"):
        openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", f"{folder}/{name}.key")
        openssl("req", "-x509", "-new", "-key", f"{folder}/{name}.key", "-subj", f"/CN=Postern test {name}",
                "-days", "30", "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", f"{folder}/{name}.pem")
    for name in os.listdir(folder):
        os.chmod(f"{folder}/{name}", 0o644)


class Pki:
    def __init__(self, shared, folder):
        self.shared, self.folder, self.count = shared, folder, 0
        os.makedirs(folder, exist_ok=True)

    @property
    def ca(self):
        return f"{self.shared}/ca.pem"

    def leaf(self, *names, kind="ec", key=0, issuer="ca", expired=False, cn=None, san=True):
        """A pair for `names`; issuer None signs with its own key. `key` tells keys of a kind apart."""
        self.count += 1
        stem = f"{self.folder}/{self.count}-{names[0].replace('*', 'star') if names else 'none'}"
        private = f"{stem}.key"
        with open(f"{self.shared}/{kind}{key}.key", "rb") as source, open(private, "wb") as copy:
            copy.write(source.read())
        extensions = "basicConstraints=critical,CA:FALSE\n"
        if names and san:
            extensions += "subjectAltName=" + ",".join(
                ("IP:" if n.replace(".", "").isdigit() or ":" in n else "DNS:") + n for n in names) + "\n"
        with open(f"{stem}.ext", "w", encoding="ascii") as f:
            f.write(extensions)
        openssl("req", "-new", "-key", private, "-subj", f"/CN={cn or (names[0] if names else 'nobody')}", "-out", f"{stem}.csr")
        above = issuer if issuer and "/" in issuer else f"{self.shared}/{issuer}"
        if expired:
            self.expired(stem, issuer)
        else:
            signer = ["-CA", f"{above}.pem", "-CAkey", f"{above}.key"] if issuer else \
                ["-signkey", private]
            openssl("x509", "-req", "-in", f"{stem}.csr", *signer, "-days", "20", "-extfile", f"{stem}.ext",
                    "-set_serial", str(int.from_bytes(os.urandom(8), "big")), "-out", f"{stem}.pem")
        chain = f"{stem}-chain.pem"
        with open(chain, "wb") as out:
            for part in [f"{stem}.pem"] + ([f"{above}.pem"] if issuer else []):
                with open(part, "rb") as f:
                    out.write(f.read())
        return Pair(f"{stem}.pem", chain, private, names)

    def short_lived_issuer(self, seconds):
        """An authority below `ca` that ends so soon, for leaf(issuer=...): its path without an ending."""
        self.count += 1
        stem = f"{self.folder}/{self.count}-issuer"
        with open(f"{self.shared}/ec3.key", "rb") as source, open(f"{stem}.key", "wb") as copy:
            copy.write(source.read())
        with open(f"{stem}.ext", "w", encoding="ascii") as f:
            f.write("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
        openssl("req", "-new", "-key", f"{stem}.key", "-subj", "/CN=Postern test short-lived", "-out", f"{stem}.csr")
        now = time.time()
        self.dated(stem, "ca", *(time.strftime("%Y%m%d%H%M%SZ", time.gmtime(at)) for at in (now - 3600, now + seconds)))
        return stem

    def expired(self, stem, issuer):
        self.dated(stem, issuer, "20200101000000Z", "20200201000000Z")

    def dated(self, stem, issuer, begin, end):
        """openssl ca is the one way of this age to give dates."""
        for name, content in (("index", ""), ("serial", f"{self.count:02X}{os.urandom(6).hex()}\n"), ("ca.cnf", (
                f"[ca]\ndefault_ca=d\n[d]\ndatabase={stem}.index\nserial={stem}.serial\nnew_certs_dir={self.folder}\n"
                "default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"))):
            with open(f"{stem}.{name}", "w", encoding="ascii") as f:
                f.write(content)
        openssl("ca", "-batch", "-notext", "-config", f"{stem}.ca.cnf", "-cert", f"{self.shared}/{issuer}.pem",
                "-keyfile", f"{self.shared}/{issuer}.key", "-in", f"{stem}.csr", "-out", f"{stem}.pem", "-extfile",
                f"{stem}.ext", "-startdate", begin, "-enddate", end)

    # contexts for peers ------------------------------------------------------------------------------

    def client(self, verify=True, minimum=None, maximum=None, ciphers=None, alpn=None, pair=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
        context.load_verify_locations(self.ca)
        return self.adjust(context, minimum, maximum, ciphers, alpn, pair)

    def server(self, pair, minimum=None, maximum=None, ciphers=None, alpn=None, demand=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.names = []
        context.sni_callback = lambda _object, name, own: own.names.append(name)
        if demand:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return self.adjust(context, minimum, maximum, ciphers, alpn, pair)

    @staticmethod
    def adjust(context, minimum, maximum, ciphers, alpn, pair):
        if minimum:
            context.minimum_version = minimum
        if maximum:
            context.maximum_version = maximum
        if ciphers:
            context.set_ciphers(ciphers)
        if alpn:
            context.set_alpn_protocols(alpn)
        if pair:
            context.load_cert_chain(pair.chain, pair.key)
        return context
