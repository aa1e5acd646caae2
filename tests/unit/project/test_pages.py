"""Test the site's own pages and headers: the index, the error pages, the icon and the Content-Security-Policy."""

import re
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path

import project.urls
from project.headers import NAME, POLICY


def refuse(request: HttpRequest) -> Any:
    raise PermissionDenied


def fail(request: HttpRequest) -> Any:
    raise RuntimeError


def with_policy(request: HttpRequest) -> Any:
    return HttpResponse("own", headers={NAME: "sandbox"})


def accept(request: HttpRequest) -> Any:
    return HttpResponse("accepted")


def complain(request: HttpRequest) -> Any:
    raise BadRequest


pages = {"refuses": refuse, "fails": fail, "complains": complain, "own": with_policy, "form": accept}
urlpatterns = [
    *(path(f"{prefix}{name}", page) for name, page in pages.items() for prefix in ("", "admin/errors/")),
    *(one for one in project.urls.urlpatterns if str(one.pattern) != "admin/"),
    path("admin/", project.urls.admin.site.urls),
]
handler400, handler403 = project.urls.handler400, project.urls.handler403
handler404, handler500 = project.urls.handler404, project.urls.handler500


def test_index_links_to_the_admin() -> None:
    answer = Client().get("/")
    assert answer.status_code == 200
    assert 'href="/admin/"' in answer.content.decode()
    assert answer.headers[NAME] == POLICY


@override_settings(ROOT_URLCONF=__name__)
@pytest.mark.parametrize("folder", ["/", "/admin/errors/"])
@pytest.mark.parametrize(
    ("name", "status", "title"),
    [
        ("complains", 400, "Bad request"),
        ("refuses", 403, "Access denied"),
        ("nowhere", 404, "Page not found"),
        ("fails", 500, "Server error"),
    ],
)
def test_errors_have_a_page(folder: str, name: str, status: int, title: str) -> None:
    """The database is not available to this test, as it may not be to the page."""
    answer = Client(raise_request_exception=False).get(f"{folder}{name}")
    if (folder, name) == ("/admin/errors/", "nowhere"):
        assert answer.status_code == 302  # visitors do not learn which pages of the admin there are
        return
    page = answer.content.decode()
    assert answer.status_code == status
    assert f"<title>{title}</title>" in page
    assert ('<a href="/admin/">Back to the admin</a>' in page) == (folder != "/")
    assert ("admin/css/base.css" in page) == (folder != "/")
    assert answer.headers[NAME] == POLICY


@override_settings(ROOT_URLCONF=__name__)
def test_a_form_without_a_token_has_a_page() -> None:
    page = Client(enforce_csrf_checks=True).post("/admin/errors/form")
    assert page.status_code == 403
    assert "The form was out of date." in page.content.decode()


@override_settings(ROOT_URLCONF=__name__)
def test_a_policy_of_a_page_is_kept() -> None:
    assert Client().get("/own").headers[NAME] == "sandbox"


def test_the_icon_is_found_at_its_old_address() -> None:
    answer = Client().get("/favicon.ico", follow=True)
    assert answer.redirect_chain == [("/static/project/favicon.svg", 302)]
    assert answer.headers["Content-Type"] == "image/svg+xml"


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_language_of_the_browser_decides(language: str) -> None:
    page = Client(headers={"Accept-Language": f"{language}-CH, xx;q=0.5"}).get("/").content.decode()
    assert f'<html lang="{language}">' in page


def test_templates_have_no_inline_code() -> None:
    """The Content-Security-Policy forbids scripts and styles within pages."""
    folders = [settings.BASE_DIR / "templates", settings.BASE_DIR / "pubsubcache" / "templates"]
    sources = [path for folder in folders for path in folder.rglob("*.html")]
    assert len(sources) > 20
    for source in sources:
        found = re.search(r"<style|<script(?![^>]* (src|type)=)| style=| on[a-z]+=[\"']", source.read_text())
        assert not found, f"{source} has {found and found[0]}"
