"""Test the encryption of stored passwords."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import override_settings

from pubsubcache.checks import check_encryption_key
from pubsubcache.models import Account
from pubsubcache.models.fields import EncryptedTextField, Undecryptable, _cipher

SECRET = "correct horse \0 battery é"


@pytest.fixture
def field() -> EncryptedTextField:
    return EncryptedTextField()


@pytest.fixture(autouse=True)
def _first_key() -> Iterator[None]:
    with override_settings(SECRET_KEY="one", SECRET_KEY_FALLBACKS=[], PUBSUBCACHE_ENCRYPTION_KEY=""):
        yield


def store(field: EncryptedTextField, value: Any) -> str:
    token = field.get_prep_value(value)
    assert isinstance(token, str)
    return token


def load(field: EncryptedTextField, token: str | None) -> str:
    return field.from_db_value(token, None, connection)


def test_stored_value_does_not_reveal_the_password(field: EncryptedTextField) -> None:
    token = store(field, SECRET)
    assert "horse" not in token
    assert token != store(field, SECRET)
    assert load(field, token) == SECRET


def test_empty_values_stay_empty(field: EncryptedTextField) -> None:
    assert store(field, "") == store(field, None) == ""
    assert load(field, "") == load(field, None) == ""


def test_wrong_key_neither_reads_nor_destroys_the_value(field: EncryptedTextField) -> None:
    token = store(field, SECRET)
    with override_settings(SECRET_KEY="two"):
        value = load(field, token)
        assert (value, bool(value)) == ("", False)
        assert isinstance(value, Undecryptable)
        for again in (value, copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert store(field, again) == token
    assert load(field, token) == SECRET


@pytest.mark.parametrize("token", ["garbage", "é", "gAAAAA", "x" * 1000])
def test_garbage_is_undecryptable(field: EncryptedTextField, token: str) -> None:
    assert isinstance(load(field, token), Undecryptable)


def test_keys_rotate(field: EncryptedTextField) -> None:
    token = store(field, SECRET)
    with override_settings(SECRET_KEY="two", SECRET_KEY_FALLBACKS=["one"]):
        assert load(field, token) == SECRET
        newer = store(field, SECRET)
    with override_settings(SECRET_KEY="two"):
        assert load(field, newer) == SECRET
        assert load(field, token) == ""


OWN = "an encryption key of 32 letters!"


def test_separate_encryption_key(field: EncryptedTextField) -> None:
    token = store(field, SECRET)
    with override_settings(PUBSUBCACHE_ENCRYPTION_KEY=OWN):
        assert load(field, token) == SECRET
        own = store(field, SECRET)
    assert load(field, own) == ""
    with override_settings(PUBSUBCACHE_ENCRYPTION_KEY=OWN, SECRET_KEY="changed"):
        assert load(field, own) == SECRET


def test_short_encryption_key_is_refused(field: EncryptedTextField) -> None:
    token = store(field, SECRET)
    with override_settings(PUBSUBCACHE_ENCRYPTION_KEY=OWN[:-1]):
        for use in (lambda: store(field, SECRET), lambda: load(field, token)):
            with pytest.raises(ImproperlyConfigured, match="fewer than 32 characters"):
                use()
        assert [message.id for message in check_encryption_key(None)] == ["pubsubcache.E003"]
    for key in ("", OWN):
        with override_settings(PUBSUBCACHE_ENCRYPTION_KEY=key):
            assert check_encryption_key(None) == []


def test_short_encryption_key_still_decrypts_as_a_fallback(field: EncryptedTextField) -> None:
    token = _cipher(("short",)).encrypt(SECRET.encode()).decode()
    for key in ("", OWN):
        with override_settings(PUBSUBCACHE_ENCRYPTION_KEY=key, PUBSUBCACHE_ENCRYPTION_KEY_FALLBACKS=["short"]):
            assert load(field, token) == SECRET
            newer = store(field, SECRET)
        with override_settings(PUBSUBCACHE_ENCRYPTION_KEY=key):
            assert load(field, newer) == SECRET
            assert load(field, token) == ""


@pytest.mark.django_db
def test_an_account_saved_under_a_wrong_key_keeps_its_password() -> None:
    Account.objects.create(jid="alice@example.org", password=SECRET)
    with connection.cursor() as cursor:
        cursor.execute("SELECT password FROM pubsubcache_account")
        assert "horse" not in cursor.fetchone()[0]
    with override_settings(SECRET_KEY="two"):
        account = Account.objects.get()
        assert account.password == ""
        account.host = "example.org"
        account.save()
    assert Account.objects.get().password == SECRET
    Account.objects.filter().update(password="new")
    assert Account.objects.get().password == "new"
