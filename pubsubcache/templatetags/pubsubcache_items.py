"""Template tags and filters for templates that show items in the admin. All output is escaped and bounded.

Data of an unexpected shape raise an error, and the admin then shows the keys and values of the item instead.
"""

from typing import Any

from django import template
from django.utils.html import format_html, format_html_join

from pubsubcache.admin import display, readable
from pubsubcache.models import PubsubNode

register = template.Library()

register.filter("line", readable.line)
register.filter("moment", readable.moment)
register.filter("time", display.moment)
register.filter("entries", readable.entries)
register.filter("typed", readable.typed)
register.filter("place", readable.place)
register.filter("attachment", readable.attachment)
register.filter("form_table", readable.form_table)
register.filter("post_of_comments", readable.post_of_comments)
register.simple_tag(readable.link, name="link")
register.simple_tag(readable.body, name="body")


@register.simple_tag
def fact(label: str, value: Any) -> str:
    """Show a value with its label in a `<dl class="psc-facts">`; nothing if the value is empty."""
    if value is None or value in ("", []):
        return ""
    return format_html("<dt>{}</dt><dd>{}</dd>", label, readable.shown(value))


@register.simple_tag
def references(node: PubsubNode, **found: Any) -> str:
    """Show references to nodes and items as facts, with links to those in the cache."""
    return format_html_join("", "<dt>{}</dt><dd>{}</dd>", readable.reference_facts(node, found))


@register.inclusion_tag("admin/pubsubcache/items/rows.html")
def values(parsed: Any) -> dict[str, Any]:
    """Show JSON as rows of keys and values, without empty values."""
    rows, is_cut = readable.rows(parsed)
    return {"rows": rows, "is_cut": is_cut}
