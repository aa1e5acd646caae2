"""Adds the Content-Security-Policy: pages load scripts and styles only from files of this site.

Pictures may come from elsewhere, because the admin loads those of an item when somebody clicks on their link.
"""

from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

NAME = "Content-Security-Policy"
POLICY = (
    "default-src 'self'; img-src 'self' https: http:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


class ContentSecurityPolicy(MiddlewareMixin):
    """Adds the policy to every response without one of its own."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Add the policy."""
        response.headers.setdefault(NAME, POLICY)
        return response
