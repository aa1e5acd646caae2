"""Model fields: text encrypted at rest, and JSON."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from pubsubcache.conf import SHORT_KEY, is_too_short, settings
from pubsubcache.keys import derive

if TYPE_CHECKING:
    _JSONField = models.JSONField
else:
    from django_jsonfield_backport.models import JSONField as _JSONField


class JSONField(_JSONField):
    """The field of django-jsonfield-backport without its system check, which recommends Django's own field."""

    system_check_deprecated_details = None

    def deconstruct(self) -> Any:
        """Describe the field to migrations as the field of django-jsonfield-backport."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django_jsonfield_backport.models.JSONField", args, kwargs


class Undecryptable(str):
    """Stands for text that no known key decrypts. It reads as empty; saving it keeps the encrypted text."""

    def __new__(cls, token: str) -> "Undecryptable":
        self = super().__new__(cls, "")
        self.token = token
        return self

    token: str


@lru_cache(maxsize=8)
def _cipher(secrets: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(derive(secret, b"pubsubcache passwords")) for secret in secrets])


def cipher() -> MultiFernet:
    """Return a cipher that encrypts with the first key and decrypts with any key in use.

    Raises:
        ImproperlyConfigured: The setting `ENCRYPTION_KEY` is too short.
    """
    if is_too_short(settings.ENCRYPTION_KEY):
        raise ImproperlyConfigured(SHORT_KEY)
    own = (settings.ENCRYPTION_KEY,) if settings.ENCRYPTION_KEY else ()
    secret_keys = (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)
    return _cipher((*own, *secret_keys, *settings.ENCRYPTION_KEY_FALLBACKS))


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Text that is plain in Python and encrypted in the database (Fernet). It cannot be searched.

    Migrations see a `TextField` that contains the encrypted text.
    """

    def deconstruct(self) -> Any:
        """Describe the field to migrations as a `TextField`, so that they need no keys."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.TextField", args, kwargs

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Undecryptable):
            return value.token
        return cipher().encrypt(value.encode()).decode() if value else ""

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str:
        if not value:
            return ""
        try:
            return cipher().decrypt(value.encode()).decode()
        except InvalidToken:
            return Undecryptable(value)
