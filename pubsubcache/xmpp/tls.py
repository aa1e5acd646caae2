"""TLS contexts for sessions, shared between clients, and readable reasons for failed handshakes."""

import functools
import ssl
from pathlib import Path

from pubsubcache.exceptions import UntrustedServer


def context(verify: bool, ca_file: str = "") -> ssl.SSLContext:
    """Return a shared TLS context, with TLS 1.2 as the minimum.

    Args:
        verify: Whether to check certificates and host names.
        ca_file: PEM file with certificate authorities in addition to those of the system, or "".

    Raises:
        UntrustedServer: `ca_file` cannot be read.
    """
    if not ca_file or not verify:
        return _context(verify, "", 0)
    try:
        return _context(verify, ca_file, Path(ca_file).stat().st_mtime_ns)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or "it contains no certificate"
        raise UntrustedServer(f"The CA file {ca_file} cannot be used: {reason}.") from error


@functools.lru_cache(maxsize=64)
def _context(verify: bool, ca_file: str, _changed: int) -> ssl.SSLContext:
    # Cached, because reading all authorities of the system takes longer than a login.
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def reason(error: ssl.SSLError) -> str:
    """Return the reason for a failed handshake as a clause without a full stop."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    return (error.reason or str(error)).replace("_", " ").lower()
