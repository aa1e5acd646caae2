"""Test the types, defaults and validation of the settings."""

from typing import Any

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from pubsubcache import checks, conf


def read(**variables: str) -> dict[str, Any]:
    env = environ.Env()
    env.ENVIRON = {f"PUBSUBCACHE_{name}": value for name, value in variables.items()}
    return {name.removeprefix("PUBSUBCACHE_"): value for name, value in conf.from_environment(env).items()}


def test_defaults_and_settings() -> None:
    assert conf.settings.MAX_AGE == conf.Defaults.MAX_AGE
    with override_settings(PUBSUBCACHE_MAX_AGE=7.0):
        assert conf.settings.MAX_AGE == 7.0
    assert conf.settings.MAX_AGE == conf.Defaults.MAX_AGE
    with pytest.raises(AttributeError):
        _ = conf.settings.NO_SUCH_SETTING


def test_every_setting_is_read_from_the_environment_in_its_type() -> None:
    examples = {
        bool: ("no", False),
        int: ("7", 7),
        float: ("2.5", 2.5),
        str: ("text", "text"),
        list: ("a,b", ["a", "b"]),
    }
    for name in conf.names():
        text, value = examples[type(getattr(conf.Defaults, name))]
        assert read(**{name: text}) == {name: value}
        assert type(read(**{name: text})[name]) is type(value)


def test_empty_environment_sets_nothing() -> None:
    assert read() == {}


@pytest.mark.parametrize("word", ["1", "true", "True", "YES", "on", "y", " true "])
def test_true_values(word: str) -> None:
    assert read(AUTO_MIGRATE=word) == {"AUTO_MIGRATE": True}


@pytest.mark.parametrize("word", ["0", "false", "False", "NO", "off", "n"])
def test_false_values(word: str) -> None:
    assert read(AUTO_MIGRATE=word) == {"AUTO_MIGRATE": False}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AUTO_MIGRATE", "maybe"),
        ("AUTO_MIGRATE", ""),
        ("AUTO_MIGRATE", "2"),
        ("PAGE_SIZE", "many"),
        ("PAGE_SIZE", ""),
        ("PAGE_SIZE", "1.5"),
        ("PAGE_SIZE", "0"),
        ("PAGE_SIZE", "-5"),
        ("MAX_AGE", "long"),
        ("MAX_AGE", "5 minutes"),
        ("MAX_AGE", "nan"),
        ("MAX_AGE", "inf"),
        ("MAX_AGE", "-1"),
    ],
)
def test_invalid_value_is_reported(name: str, text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"PUBSUBCACHE_{name}"):
        read(**{name: text})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("MAX_AGE", "0", 0.0), ("MAX_AGE", "3e2", 300.0), ("ENCRYPTION_KEY", "", "")],
)
def test_values_at_the_edge(name: str, text: str, value: Any) -> None:
    assert read(**{name: text}) == {name: value}


def test_removed_setting_is_named_by_a_warning_and_has_no_effect() -> None:
    with override_settings(PUBSUBCACHE_POLL_INTERVAL=5.0):
        (warning,) = checks.check_removed_settings(None)
    assert (warning.id, warning.msg.partition(":")[0]) == (
        "pubsubcache.W004",
        "PUBSUBCACHE_POLL_INTERVAL has no effect",
    )
    assert checks.check_removed_settings(None) == []
    assert not set(conf.REMOVED) & set(conf.names())


def test_removed_setting_in_the_environment_reaches_the_check() -> None:
    assert read(POLL_INTERVAL="many") == {"POLL_INTERVAL": "many"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PAGE_SIZE", "100", "must be of type int, got str."),
        ("PAGE_SIZE", True, "must be of type int, got bool."),
        ("PAGE_SIZE", 0, "must be >= 1, got 0."),
        ("MAX_AGE", -1, "must be >= 0, got -1."),
        ("ENCRYPTION_KEY_FALLBACKS", [1], "must be a list of strings."),
    ],
)
def test_check_names_a_setting_with_a_wrong_value(name: str, value: Any, said: str) -> None:
    with override_settings(**{f"PUBSUBCACHE_{name}": value}):
        (error,) = checks.check_settings(None)
    assert (error.id, error.msg) == ("pubsubcache.E001", f"PUBSUBCACHE_{name} {said}")


def test_defaults_pass_the_check() -> None:
    assert checks.check_settings(None) == []
