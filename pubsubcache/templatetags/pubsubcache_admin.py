"""Tags of the admin's templates."""

from typing import Any

from django import template
from django.template import Context

register = template.Library()


@register.inclusion_tag("admin/pubsubcache/overview.html", takes_context=True)
def pubsubcache_overview(context: Context) -> dict[str, Any]:
    """Render the figures that the request's user may see."""
    from pubsubcache.admin.overview import overview

    return overview(context["request"].user)
