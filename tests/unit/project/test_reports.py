"""Test that error pages and error mails hide credentials."""

from typing import Any

import pytest
from django.test import Client, RequestFactory, override_settings
from django.urls import path
from django.views.debug import ExceptionReporter

from project.reports import UrlFilter

SECRET = "hunter2-never-to-be-seen"
URL = f"rediss://site:{SECRET}@redis.example.org:6379/0"


urlpatterns = [path("fails", int)]  # not a view, so that the error page shows no lines of this file


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", URL),
        ("DATABASE_URL", f"postgres://site:{SECRET}@db/name"),
        ("DATABASE_URL", f"postgres://db/name?user=site&password={SECRET}"),
        ("CHANNEL_LAYERS", {"default": {"CONFIG": {"hosts": [URL]}}}),
        ("CHANNEL_LAYERS", {"default": {"CONFIG": {"hosts": [{"address": f"redis://h:6379/0?password={SECRET}"}]}}}),
        ("CHANNEL_LAYERS", {"default": {"CONFIG": {"hosts": [{"password": SECRET}]}}}),
        ("CHANNEL_LAYERS", {"default": {"CONFIG": {"symmetric_encryption_keys": [SECRET.encode()]}}}),
        ("CACHES", {"default": {"LOCATION": (f"redis://:a@{SECRET}@h", URL)}}),
        ("BROKER", f"tried {URL} and redis://x:{SECRET}@y"),
    ],
)
def test_logins_in_urls_are_hidden(name: str, value: Any) -> None:
    assert SECRET not in repr(UrlFilter().cleanse_setting(name, value))


@pytest.mark.parametrize(
    "value", ["https://pubsub.example.org", "static/", "bob@example.org", ["https://a.example", "x"], 7, None]
)
def test_other_values_are_shown(value: Any) -> None:
    assert UrlFilter().cleanse_setting("CSRF_TRUSTED_ORIGINS", value) == value


def test_debug_page_shows_no_password() -> None:
    layers = {"default": {"BACKEND": "x", "CONFIG": {"hosts": [{"address": URL, "socket_timeout": 30}]}}}
    with override_settings(
        DEBUG=True, ROOT_URLCONF=__name__, REDIS_URL=URL, CHANNEL_LAYERS=layers, ALLOWED_HOSTS=["testserver"]
    ):
        answer = Client(raise_request_exception=False).get("/fails", DATABASE_URL=f"postgres://site:{SECRET}@db/name")
    page = answer.content.decode()
    assert answer.status_code == 500
    assert "redis.example.org:6379" in page
    assert SECRET not in page


def test_reports_by_mail_show_no_password() -> None:
    with override_settings(REDIS_URL=URL):
        text = ExceptionReporter(RequestFactory().get("/"), RuntimeError, RuntimeError("x"), None).get_traceback_text()
    assert "REDIS_URL" in text
    assert SECRET not in text
