"""A certificate authority made anew for each test run, with a certificate as the C2PA specification asks for."""

from __future__ import annotations

import datetime
import functools
import io
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM


def _certificate(name: str, issuer: str, keys: tuple[Any, Any], *, authority: bool) -> x509.Certificate:
    """Issue a certificate to the public part of the first key, signed with the second."""
    own, signing = keys
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name(issuer))
    builder = builder.public_key(own.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
        now + datetime.timedelta(days=9)
    )
    usage = x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    builder = builder.add_extension(issuer_key, critical=False)
    if not authority:
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purposes, critical=False)
    return builder.sign(signing, hashes.SHA256())


def _name(common: str) -> x509.Name:
    parts = {NameOID.ORGANIZATION_NAME: "Test Studio", NameOID.COMMON_NAME: common}
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts.items()])


@functools.cache
def authority() -> tuple[bytes, bytes, bytes]:
    """Return the root certificate, the chain of the signer, and the signer's key, all as PEM."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("Test Root", "Test Root", (root_key, root_key), authority=True).public_bytes(PEM)
    leaf = _certificate("Test Signer", "Test Root", (key, root_key), authority=False).public_bytes(PEM)
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return root, leaf + root, private


def sign(
    data: bytes, mime: str, actions: list[dict[str, Any]], *, ingredients: dict[str, bytes] | None = None
) -> bytes:
    """Sign a file: embed a manifest with these actions, and with ingredients by their title (all JPEG)."""
    _, chain, key = authority()
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=key, ta_url=None))
    assertion = {"label": "c2pa.actions", "data": {"actions": actions}}
    info = [{"name": "Test Camera", "version": "1.0"}]
    target = io.BytesIO()
    with signer, c2pa.Builder({"claim_generator_info": info, "title": "test", "assertions": [assertion]}) as builder:
        for title, ingredient in (ingredients or {}).items():
            relation = {"title": title, "relationship": "componentOf"}
            builder.add_ingredient(relation, "image/jpeg", io.BytesIO(ingredient))
        builder.sign(signer, mime, io.BytesIO(data), target)
    return target.getvalue()
