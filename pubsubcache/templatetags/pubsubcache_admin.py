"""Template tags for the admin."""

from typing import Any

from django import template
from django.template import Context

register = template.Library()


@register.inclusion_tag("admin/pubsubcache/overview.html", takes_context=True)
def pubsubcache_overview(context: Context) -> dict[str, Any]:
    """Render an overview of the cache, limited to what the current user may view."""
    from pubsubcache.admin.overview import overview

    return overview(context["request"].user)
