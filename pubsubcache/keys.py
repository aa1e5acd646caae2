"""Derives encryption keys from the secrets of the site. It does not import settings, so settings can import it."""

import base64
from collections.abc import Iterable

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derive(secret: str, purpose: bytes) -> bytes:
    """Derive the Fernet key for a purpose from a secret (HKDF, RFC 5869)."""
    return base64.urlsafe_b64encode(HKDF(SHA256(), 32, salt=None, info=purpose).derive(secret.encode()))


def channel_layer_keys(secret_key: str, fallbacks: Iterable[str] = ()) -> list[bytes]:
    """Return the `symmetric_encryption_keys` for a channel layer in Redis.

    Messages are encrypted with the first key and decrypted with any of them.

    Args:
        secret_key: `SECRET_KEY` of the site.
        fallbacks: `SECRET_KEY_FALLBACKS` of the site.
    """
    return [derive(secret, b"pubsubcache channel layer") for secret in (secret_key, *fallbacks)]
