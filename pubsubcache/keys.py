"""Keys derived from the secrets of the settings, one for each purpose. Imports no settings, so settings can use it."""

import base64
from collections.abc import Iterable

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derive(secret: str, purpose: bytes) -> bytes:
    """Return the Fernet key for `purpose` that is derived from `secret` (HKDF, RFC 5869)."""
    return base64.urlsafe_b64encode(HKDF(SHA256(), 32, salt=None, info=purpose).derive(secret.encode()))


def channel_layer_keys(secret_key: str, fallbacks: Iterable[str] = ()) -> list[bytes]:
    """Return the `symmetric_encryption_keys` of a channel layer in Redis.

    Messages are encrypted with the first key and decrypted with any.

    Args:
        secret_key: The site's `SECRET_KEY`.
        fallbacks: Its `SECRET_KEY_FALLBACKS`.
    """
    return [derive(secret, b"pubsubcache channel layer") for secret in (secret_key, *fallbacks)]
