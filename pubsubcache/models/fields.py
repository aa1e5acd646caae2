"""Fields: text that is encrypted at rest, and JSON."""

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
    """The field of django-jsonfield-backport, without its notice to every host that Django has such a field too."""

    system_check_deprecated_details = None

    def deconstruct(self) -> Any:
        """Return the field as migrations see it."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django_jsonfield_backport.models.JSONField", args, kwargs


class Undecryptable(str):
    """An empty text that stands for one whose key is not known; saved again, it is left as it is."""

    def __new__(cls, token: str) -> "Undecryptable":
        self = super().__new__(cls, "")
        self.token = token
        return self

    token: str


@lru_cache(maxsize=8)
def _cipher(secrets: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(derive(secret, b"pubsubcache passwords")) for secret in secrets])


def cipher() -> MultiFernet:
    """Return the cipher: encrypts with the first key, decrypts with any of the keys in use.

    Raises `ImproperlyConfigured` when the encryption key of the settings is too short.
    """
    if is_too_short(settings.ENCRYPTION_KEY):
        raise ImproperlyConfigured(SHORT_KEY)
    own = (settings.ENCRYPTION_KEY,) if settings.ENCRYPTION_KEY else ()
    secret_keys = (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)
    return _cipher((*own, *secret_keys, *settings.ENCRYPTION_KEY_FALLBACKS))


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Text that is encrypted in the database (Fernet) and plain in Python; it cannot be searched.

    To migrations it is a `TextField`, which holds the encrypted text.
    """

    def deconstruct(self) -> Any:
        """Return the field as migrations see it, which need no keys."""
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
