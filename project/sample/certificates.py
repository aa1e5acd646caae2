"""Creates certificates for private servers, signed by a private certificate authority."""

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=3650)
PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files: the certificate of the authority, that of the server with its chain, and the server's key.

    The key of the authority is stored beside them, to issue more certificates later.
    """

    ca_file: Path
    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path, domains: list[str]) -> "Certificates":
        """Return the certificates in `folder`, and create them for the host names `domains` if they are missing."""
        found = cls(folder / "ca.pem", folder / "server.pem", folder / "server.key")
        if not all(path.exists() for path in (found.ca_file, found.certificate, found.key)):
            found._make(domains)
        return found

    @property
    def bundle(self) -> bytes:
        """Key and certificates of the server in one file, which some servers need."""
        return self.key.read_bytes() + self.certificate.read_bytes()

    def issue(self, domains: list[str], lifetime: datetime.timedelta = LIFETIME) -> bytes:
        """Return a new key and its certificate with the chain, signed by the same authority.

        Args:
            domains: Host names of the certificate.
            lifetime: Time until it expires; if negative, the certificate has already expired.
        """
        ca = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        ca_key = serialization.load_pem_private_key(self._ca_key.read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        server = _server(key, ca_key, ca, domains, lifetime)
        return _private_bytes(key) + server.public_bytes(PEM) + ca.public_bytes(PEM)

    @property
    def _ca_key(self) -> Path:
        return self.ca_file.with_suffix(".key")

    def _make(self, domains: list[str]) -> None:
        self.key.parent.mkdir(parents=True, exist_ok=True)
        ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = _authority(ca_key)
        server = _server(server_key, ca_key, ca, domains)
        self.ca_file.write_bytes(ca.public_bytes(PEM))
        self.certificate.write_bytes(server.public_bytes(PEM) + ca.public_bytes(PEM))
        for path, key in ((self._ca_key, ca_key), (self.key, server_key)):
            path.touch(mode=0o600)
            path.write_bytes(_private_bytes(key))


def _private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _draft(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    lifetime: datetime.timedelta = LIFETIME,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    public, signer = key.public_key(), issuer_key.public_key()
    return (
        x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + min(lifetime, datetime.timedelta()) - datetime.timedelta(days=1))
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("Private authority of pubsubcache")
    return (
        _draft(name, key, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey,
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    domains: list[str],
    lifetime: datetime.timedelta = LIFETIME,
) -> x509.Certificate:
    names = x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains])
    return (
        _draft(_name(domains[0]), key, ca.subject, ca_key, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
