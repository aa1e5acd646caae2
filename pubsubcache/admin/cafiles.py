"""CA files that staff may name: certificates in the folder that the site's settings set aside for them."""

from pathlib import Path

from cryptography import x509
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from pubsubcache.conf import settings

MAX_SIZE = 4 * 1024 * 1024  # the system's own bundle has about 200 KB


def help_text() -> str:
    """Return what the form says about the field."""
    if not settings.CA_FOLDER:
        return _("This site has no folder for CA files, so it can only be set by commands.")
    return _("The name of a file of certificates (PEM) in the site's folder for CA files, trusted beside the system's.")


def usable(name: str) -> str:
    """Return the real path of the CA file `name`, which is relative to `CA_FOLDER` or a path below it.

    Raises `ValidationError` unless it is a file of certificates below that folder. The error is the same whatever
    the reason, so that it tells nothing about other files.
    """
    if not settings.CA_FOLDER:
        raise ValidationError(_("This site has no folder for CA files."))
    if (path := _find(Path(settings.CA_FOLDER), name)) is None:
        raise ValidationError(_("The site's folder for CA files has no such file of certificates (PEM)."))
    return str(path)


def _find(folder: Path, name: str) -> Path | None:
    try:
        folder = folder.resolve(strict=True)
        path = (folder / name).resolve(strict=True)
        found = path.is_relative_to(folder) and path.is_file() and _holds_certificates_only(path)
    except (OSError, RuntimeError, ValueError):  # no such file, a loop of links, no path, no certificate
        return None
    return path if found else None


def _holds_certificates_only(path: Path) -> bool:
    """Raises `ValueError` when there is no certificate."""
    with path.open("rb") as file:
        text = file.read(MAX_SIZE + 1)
    return len(text) <= MAX_SIZE and b"PRIVATE KEY" not in text and bool(x509.load_pem_x509_certificates(text))
