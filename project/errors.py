"""Error pages: those below the admin look like it and lead back to it, the others are plain pages of the site."""

from http import HTTPStatus

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Return the page for a request that cannot be understood."""
    return _page(request, HTTPStatus.BAD_REQUEST, _("Bad request"), _("The server does not understand this request."))


def denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Return the page for a user without permission."""
    return _page(request, HTTPStatus.FORBIDDEN, _("Access denied"), _("You may not open this page."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Return the page for a form without a valid CSRF token, usually because the user has logged in again."""
    text = _("The form was out of date. Go back, reload the page and send the form again. Cookies must be allowed.")
    return _page(request, HTTPStatus.FORBIDDEN, _("Access denied"), text)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Return the page for an address without a page."""
    return _page(request, HTTPStatus.NOT_FOUND, _("Page not found"), _("There is no page at this address."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Return the page for an error of the site."""
    text = _("Something went wrong. The log of the site says what.")
    return _page(request, HTTPStatus.INTERNAL_SERVER_ERROR, _("Server error"), text)


def _page(request: HttpRequest, status: HTTPStatus, title: str, text: str) -> HttpResponse:
    """Render a page without the database, which may be what is broken."""
    below_admin = request.path.startswith(reverse("admin:index"))
    context = {"title": title, "text": text, "site_header": admin.site.site_header, "site_title": admin.site.site_title}
    return HttpResponse(render_to_string("admin/error.html" if below_admin else "error.html", context), status=status)
