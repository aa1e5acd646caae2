"""TLS as sessions use it: contexts shared between clients, and words for what may be wrong with a certificate."""

import functools
import ssl
from pathlib import Path

from pubsubcache.exceptions import UntrustedServer


def context(verify: bool, ca_file: str = "") -> ssl.SSLContext:
    """Return the context for logins with these settings, TLS 1.2 at least; the same one for the same settings.

    Certificates are checked, with the host's name, against the system's authorities and those in `ca_file` (PEM);
    with `verify` off not at all. Raises `UntrustedServer` when `ca_file` cannot be read.
    """
    if not ca_file or not verify:
        return _context(verify, "", 0)
    try:
        return _context(verify, ca_file, Path(ca_file).stat().st_mtime_ns)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or "it holds no certificate"
        raise UntrustedServer(f"The CA file {ca_file} cannot be used: {reason}.") from error


@functools.lru_cache(maxsize=64)
def _context(verify: bool, ca_file: str, _changed: int) -> ssl.SSLContext:
    # Making one reads all authorities of the system, which takes longer than a login.
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        made.load_verify_locations(cafile=ca_file)
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def reason(error: ssl.SSLError) -> str:
    """Return why a handshake failed, as the end of a sentence without its full stop."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    return (error.reason or str(error)).replace("_", " ").lower()
