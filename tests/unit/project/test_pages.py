"""Test the site's own pages: the index and the error pages."""

from typing import Any

import pytest
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest
from django.test import Client, override_settings
from django.urls import path

import project.urls


def refuse(request: HttpRequest) -> Any:
    raise PermissionDenied


def fail(request: HttpRequest) -> Any:
    raise RuntimeError


def complain(request: HttpRequest) -> Any:
    raise BadRequest


urlpatterns = [
    path("refuses", refuse),
    path("fails", fail),
    path("complains", complain),
    *project.urls.urlpatterns,
]


def test_index_links_to_the_admin() -> None:
    answer = Client().get("/")
    assert answer.status_code == 200
    assert 'href="/admin/"' in answer.content.decode()


@override_settings(ROOT_URLCONF=__name__)
@pytest.mark.parametrize(
    ("name", "status", "title"),
    [
        ("/complains", 400, "Bad request"),
        ("/refuses", 403, "Access denied"),
        ("/nowhere", 404, "Page not found"),
        ("/fails", 500, "Server error"),
    ],
)
def test_errors_have_a_page(name: str, status: int, title: str) -> None:
    answer = Client(raise_request_exception=False).get(name)
    page = answer.content.decode()
    assert answer.status_code == status
    assert f"<title>{title}</title>" in page
    assert "color-scheme" in page
