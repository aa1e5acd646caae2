"""Validation of CA files: staff may choose certificates in the folder `CA_FOLDER` only."""

from pathlib import Path

from cryptography import x509
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from pubsubcache.conf import settings

MAX_SIZE = 4 * 1024 * 1024  # the system's own bundle has about 200 KB


def help_text() -> str:
    """Return the help text of the form field."""
    if not settings.CA_FOLDER:
        return _("This site has no folder for CA files, so only commands can set it.")
    return _("Name of a PEM file in the site's folder for CA files. It is trusted in addition to those of the system.")


def usable(name: str) -> str:
    """Validate the name of a CA file.

    Args:
        name: Path relative to `CA_FOLDER`, or an absolute path below it.

    Returns:
        The real path of the file.

    Raises:
        ValidationError: It is not a file of certificates below `CA_FOLDER`. The message is the same for all reasons, so
            that it reveals nothing about other files.
    """
    if not settings.CA_FOLDER:
        raise ValidationError(_("This site has no folder for CA files."))
    if (path := _find(Path(settings.CA_FOLDER), name)) is None:
        raise ValidationError(_("The site's folder for CA files does not contain such a PEM file of certificates."))
    return str(path)


def _find(folder: Path, name: str) -> Path | None:
    try:
        folder = folder.resolve(strict=True)
        path = (folder / name).resolve(strict=True)
        found = path.is_relative_to(folder) and path.is_file() and _holds_certificates_only(path)
    except (OSError, RuntimeError, ValueError):  # no such file, a loop of links, an invalid path, no certificate
        return None
    return path if found else None


def _holds_certificates_only(path: Path) -> bool:
    """Return whether a file has certificates and no private key. Raises `ValueError` if it has no certificate."""
    with path.open("rb") as file:
        text = file.read(MAX_SIZE + 1)
    return len(text) <= MAX_SIZE and b"PRIVATE KEY" not in text and bool(x509.load_pem_x509_certificates(text))
