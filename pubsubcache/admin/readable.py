"""Shows parsed items for people. Parsed data are hostile: every output is escaped and bounded.

Functions for templates raise `TypeError` for data of an unexpected shape. `readable` then falls back to a view of keys
and values, so that nothing is hidden.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from html import unescape
from typing import Any, NamedTuple

from django.db.models import Q
from django.template.defaultfilters import filesizeformat
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pubsubcache.admin import display
from pubsubcache.analysers import matching, registry
from pubsubcache.exceptions import ParseError
from pubsubcache.models import PubsubItem, PubsubNode
from pubsubcache.parsers import html, uris
from pubsubcache.parsers.microblog import COMMENTS_PREFIX
from pubsubcache.parsers.text import storable
from pubsubcache.utils import cleaning
from pubsubcache.utils.cleaning import get_logger, one_line

logger = get_logger(__name__)

FOLDER = "admin/pubsubcache/items"
MAX_LINE = 500  # characters of a title, a name or another short value
MAX_TEXT = 20_000  # characters of a plain text
MAX_MARKUP = 200_000  # characters of markup; longer content is shown as text
MAX_ENTRIES = 100  # entries of a list
MAX_COLUMNS = 20  # columns of a table
MAX_REFERENCES = 10  # nodes and items that are looked up for one page
MAX_ROWS = 200  # rows of the view of keys and values
MAX_DEPTH = 5  # levels of it
WEB = ("http://", "https://")
REFERENCES = {
    "comments": gettext_lazy("Comments"),
    "reply": gettext_lazy("Reply to"),
    "repeated": gettext_lazy("Original"),
    "invitees": gettext_lazy("Invitees"),
    "blog": gettext_lazy("Blog"),
    "schedule": gettext_lazy("Schedule"),
    "external": gettext_lazy("The event itself"),
}

# Tags in the output of `html.sanitise`, which escapes `<`, `>` and `"` everywhere else.
_LINK_OR_PICTURE = re.compile(r"<a(?= |>)[^<>]*+>|</a>|<img(?= |/)[^<>]*+>")
_ATTRIBUTE = re.compile(r' ([a-z]++)="([^"]*+)"')


# The whole view


def template_of(item: PubsubItem) -> str | None:
    """Return the name of the template for an item, or None if the keys and values of its parsed data are shown."""
    if not isinstance(item.parsed, dict):
        return None
    if item.parsed.get("encrypted") is True and "scheme" in item.parsed:
        return f"{FOLDER}/encrypted.html"
    analyser = registry.get(item.node.analyser)
    with suppress(ParseError):
        analyser = matching.reader(analyser, item.as_item().element)
    return analyser.template if analyser else None


def readable(item: PubsubItem) -> str:
    """Return the parsed data of an item as HTML for people, by the template of the analyser."""
    context = {"item": item, "parsed": item.parsed, "node": item.node}
    if (template := template_of(item)) is not None:
        try:
            return render_to_string(template, context)
        except Exception:
            logger.warning("The template %s failed for item %s of %s", template, item.name, item.node, exc_info=True)
    return render_to_string(f"{FOLDER}/values.html", context)


class Row(NamedTuple):
    """A row of the view of keys and values. Without a value it is the heading of the next level."""

    depth: int
    key: str
    value: str


def rows(value: Any) -> tuple[list[Row], bool]:
    """Return JSON as at most `MAX_ROWS` rows without empty values, and whether some were left out."""
    found: list[Row] = []
    # The levels that are open, each with what remains of it.
    stack = [_children(value)]
    is_cut = False
    while stack:
        key, child = next(stack[-1], ("", None))
        if child is None:
            stack.pop()
        elif len(found) == MAX_ROWS:
            return found, True
        elif _is_flat(child):
            found.append(Row(len(stack) - 1, key, shown(child)))
        elif len(stack) == MAX_DEPTH:
            is_cut = True
            found.append(Row(len(stack) - 1, key, "…"))
        else:
            found.append(Row(len(stack) - 1, key, ""))
            stack.append(_children(child))
    return found, is_cut


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the children of a value that are not empty, with their keys. A number or text is its own child."""
    children: Iterator[tuple[str, Any]]
    if isinstance(value, dict):
        children = ((one_line(key, 100), child) for key, child in value.items())
    elif isinstance(value, list):
        children = ((str(number), child) for number, child in enumerate(value, 1))
    else:
        children = iter([("", value)])
    return ((key, child) for key, child in children if not _is_empty(child))


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _is_flat(value: Any) -> bool:
    """Return whether `shown` can show a value: no object, and no list of anything but texts and numbers."""
    if isinstance(value, list):
        return not any(isinstance(entry, (dict, list)) for entry in value[:MAX_ENTRIES])
    return not isinstance(value, dict)


# Single values


def line(value: Any, limit: int = MAX_LINE) -> str:
    """Return a short text as one line in which bidirectional controls are visible, or "" for None.

    Raises:
        TypeError: The value is neither text nor a number.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError("not a text")
    return cleaning.label(value, limit)


def moment(value: Any) -> str:
    """Return a date and time of parsed data in the format of the site; unchanged if it is something else."""
    text = line(value)
    try:
        found = datetime.fromisoformat(text)
        return display.moment(found) if found.tzinfo and len(text) > len("2026-01-31") else text
    except (ValueError, OverflowError):
        return text


def shown(value: Any) -> str:
    """Return a flat value as HTML.

    Raises:
        TypeError: The value is an object, or a list with objects.
    """
    if isinstance(value, SafeString):
        return value
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        pieces = [shown_entry(entry) for entry in value[:MAX_ENTRIES] if not _is_empty(entry)]
        if len(value) > MAX_ENTRIES:
            pieces.append("…")
        return format_html_join(", ", "{}", ((piece,) for piece in pieces))
    return shown_entry(value)


def shown_entry(value: Any) -> str:
    """Return a text, number, truth value or link as HTML. Raises `TypeError` for others."""
    if isinstance(value, bool):
        return shown(value)
    text = line(value)
    if isinstance(value, str) and text.lower().startswith((*WEB, "xmpp:", "mailto:", "geo:", "tel:")):
        return link(value)
    return format_html('<bdi dir="auto">{}</bdi>', text)


def link(href: Any, label: Any = "") -> str:
    """Return a link to another site, or only the label if the address is not safe.

    Args:
        href: The address.
        label: The text; by default the address.

    Raises:
        TypeError: An argument is not text.
    """
    written = line(label) or line(href)
    safe = uris.link(href) if href else None
    if safe is None or safe.partition(":")[0].lower() not in uris.SCHEMES:  # a relative one would lead into the admin
        return format_html('<bdi dir="auto">{}</bdi>', written)
    link_html = '<a href="{}" rel="noopener noreferrer nofollow" title="{}"><bdi dir="auto">{}</bdi></a>'
    return format_html(link_html, safe, one_line(safe), written)


def entries(value: Any) -> list[Any]:
    """Return the first entries of a list. Raises `TypeError` for anything else but an empty value."""
    if _is_empty(value):
        return []
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value[:MAX_ENTRIES]


def typed(value: Any) -> list[str]:
    """Return the entries of a list of `{value, types}` as texts (vCard)."""
    found: list[str] = []
    for entry in entries(value):
        types = ", ".join(line(kind) for kind in entries(entry["types"]))
        pieces = shown(entry["value"]), f" ({types})" if types else ""
        found.append(format_html("{}{}", *pieces))
    return found


def place(value: Any) -> str:
    """Return a place (XEP-0080) as one line."""
    if _is_empty(value):
        return ""
    names = (
        "text", "description", "room", "floor", "building", "street", "area", "postalcode", "code", "locality",
        "region", "country",
    )  # fmt: skip
    pieces = [shown(value[name]) for name in names if not _is_empty(value.get(name))]
    if isinstance(value.get("lat"), (int, float)) and isinstance(value.get("lon"), (int, float)):
        where = f"{value['lat']},{value['lon']}"
        pieces.append(link(f"geo:{where}", where))
    return format_html_join(", ", "{}", ((piece,) for piece in pieces))


# Longer content


def body(xhtml: Any, text: Any) -> str:
    """Return content as HTML: the markup, in which pictures load only after a click, or else the plain text."""
    if xhtml and isinstance(xhtml, str) and len(xhtml) <= MAX_MARKUP:
        safe = html.sanitise(html.parse(xhtml))
        if safe is not None:
            return format_html('<div class="psc-body" dir="auto">{}</div>', pictures_on_click(safe))
    if _is_empty(text):
        return ""
    if not isinstance(text, str):
        raise TypeError("not a text")
    text = storable(text)
    if len(text) <= MAX_TEXT:
        return format_html('<div class="psc-body psc-plain" dir="auto">{}</div>', text)
    notice = _("Only the first %(shown)s of %(all)s characters are shown.") % {
        "shown": display.number(MAX_TEXT),
        "all": display.number(len(text)),
    }
    plain = '<div class="psc-body psc-plain" dir="auto">{}</div><p class="psc-notice">{}</p>'
    return format_html(plain, text[:MAX_TEXT], notice)


def pictures_on_click(xhtml: str) -> SafeString:
    """Replace the pictures in sanitised markup by links, which a script turns into pictures after a click.

    Links cannot be nested, so the link to a picture within a link follows that link.
    """
    waiting: list[str] = []
    is_in_link = False

    def replaced(found: re.Match[str]) -> str:
        nonlocal is_in_link
        tag = found[0]
        if tag.startswith("<img"):
            attributes = {key: unescape(value) for key, value in _ATTRIBUTE.findall(tag)}
            picture = _picture(attributes.get("src"), attributes.get("alt", ""))
            if not is_in_link:
                return picture
            waiting.append(picture)
            return format_html("{}", one_line(attributes.get("alt") or _("picture"), MAX_LINE))
        is_in_link = tag != "</a>"
        if is_in_link:
            return tag
        pictures = "".join(f" {picture}" for picture in waiting)
        waiting.clear()
        return tag + pictures

    return mark_safe(_LINK_OR_PICTURE.sub(replaced, xhtml))  # noqa: S308 (the tags are escaped, the rest sanitised)


def _picture(src: str | None, alt: str) -> str:
    label = one_line(alt, MAX_LINE) or _("picture")
    safe = uris.link(src)
    if safe is None or not safe.lower().startswith(WEB):
        return format_html('<span class="psc-picture">{}</span>', label)
    return format_html(
        '<a class="psc-picture" href="{0}" data-src="{0}" rel="noopener noreferrer nofollow" title="{1}">{2}</a>',
        safe,
        one_line(safe),
        label,
    )


def attachment(value: Any) -> str:
    """Return an attachment of a post or event as HTML: a link, the media type and the size."""
    href = value.get("url") or next(iter(entries(value.get("urls"))), None)
    details = [line(value.get("media_type"))]
    if isinstance(value.get("size"), int):
        details.append(filesizeformat(value["size"]))
    if value.get("width") and value.get("height"):
        details.append(f"{line(value['width'])} × {line(value['height'])}")  # noqa: RUF001
    about = ", ".join(detail for detail in details if detail)
    label = value.get("desc") or value.get("name") or href
    return format_html('{} <span class="psc-dim">{}</span>', link(href, label), about)


# References to other nodes and items


def reference_facts(node: PubsubNode, references: dict[str, Any]) -> list[tuple[str, str]]:
    """Return labels and links of nodes and items that parsed data refer to. Takes at most two queries.

    Args:
        node: The node of the item; only nodes of its account are looked up.
        references: One reference or a list of references `{uri, service, node, item}` by their name in `REFERENCES`.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for name, value in references.items():
        for entry in entries([value] if isinstance(value, dict) else value):
            if len(found) < MAX_REFERENCES and any(entry.get(key) for key in ("uri", "node", "href")):
                found.append((str(REFERENCES[name]), entry))
    items = _cached_items(node, [entry for _label, entry in found if entry.get("item")])
    nodes = _cached_nodes(node, [entry for _label, entry in found if not entry.get("item")])
    return [(label, _reference(entry, items, nodes)) for label, entry in found]


def _place_of(entry: dict[str, Any]) -> tuple[str, str]:
    return line(entry.get("service"), 3000), line(entry.get("node"), 3000)


def _cached_nodes(node: PubsubNode, wanted: list[dict[str, Any]]) -> dict[tuple[str, str], PubsubNode]:
    condition = Q()
    for service, name in {_place_of(entry) for entry in wanted}:
        condition |= Q(service=service, name=name)
    if not condition:
        return {}
    nodes = PubsubNode.objects.filter(condition, account=node.account_id).only("service", "name", "item_count")
    return {(one.service, one.name): one for one in nodes}


def _cached_items(node: PubsubNode, wanted: list[dict[str, Any]]) -> dict[tuple[str, str, str], int]:
    condition = Q()
    for service, name, item in {(*_place_of(entry), line(entry["item"], 3000)) for entry in wanted}:
        condition |= Q(node__service=service, node__name=name, name=item)
    if not condition:
        return {}
    items = PubsubItem.objects.filter(condition, node__account=node.account_id)
    return {
        (service, name, item): pk
        for pk, service, name, item in items.values_list("pk", "node__service", "node__name", "name")
    }


def _reference(entry: dict[str, Any], items: dict[Any, int], nodes: dict[Any, PubsubNode]) -> str:
    where = _place_of(entry)
    if entry.get("item"):
        if pk := items.get((*where, entry["item"])):
            return link_to_item(pk, entry["item"])
    elif cached := nodes.get(where):
        url = reverse("admin:pubsubcache_pubsubitem_changelist", query={"node__id__exact": cached.pk})
        count = _("%(count)s in the cache") % {"count": display.number(cached.item_count)}
        return format_html(
            '<a href="{}"><bdi>{}</bdi></a> <span class="psc-dim">{}</span>', url, one_line(cached.name, 200), count
        )
    label = entry.get("item") or entry.get("node")
    away = link(entry.get("uri") or entry.get("href"), label)
    return format_html('{} <span class="psc-dim">{}</span>', away, _("not in the cache")) if label else away


def link_to_item(pk: int, label: str) -> SafeString:
    """Return a link to the page of a cached item."""
    url = reverse("admin:pubsubcache_pubsubitem_change", args=[pk])
    return format_html('<a href="{}"><bdi>{}</bdi></a>', url, one_line(label, 200))


def post_of_comments(node: PubsubNode) -> str:
    """Return a link to the cached post that a comments node belongs to, or "".

    Clients name a comments node after the id of the post. The post must refer to the node too.
    """
    if not (item_id := node.name.removeprefix(COMMENTS_PREFIX)) or item_id == node.name:
        return ""
    posts = PubsubItem.objects.filter(node__account=node.account_id, name=item_id).only("parsed")
    for post in posts[:MAX_REFERENCES]:
        parsed = post.parsed if isinstance(post.parsed, dict) else {}
        comments = parsed.get("comments")
        for entry in comments[:MAX_ENTRIES] if isinstance(comments, list) else []:
            if isinstance(entry, dict) and (entry.get("service"), entry.get("node")) == (node.service, node.name):
                title = parsed.get("title")
                return link_to_item(post.pk, title if isinstance(title, str) and title else item_id)
    return ""


# Forms


class Table(NamedTuple):
    """The heads and rows of a table."""

    heads: list[str]
    rows: list[list[str]]


def form_table(parsed: dict[str, Any]) -> Table:
    """Return the fields of a form (XEP-0004) with their values, or the table of a form with several items."""
    fields = [field for field in entries(parsed.get("fields")) if field.get("type") not in ("hidden", "fixed")]
    items = entries(parsed.get("items"))
    if items:
        columns = fields[:MAX_COLUMNS]
        heads = [line(field.get("label") or field.get("var")) for field in columns]
        return Table(heads, [[shown(item.get(field.get("var")) or []) for field in columns] for item in items])
    values, is_blank = parsed.get("values") or {}, parsed.get("type") == "form"
    return Table(
        [_("Field"), _("Value")],
        [[line(field.get("label") or field.get("var")), _answer(field, values, is_blank)] for field in fields],
    )


def _answer(field: dict[str, Any], values: dict[str, Any], is_blank: bool) -> str:
    """Return the values of a field, by the labels of the options; and the options if the form is to be filled in."""
    labels = {line(option.get("value")): option.get("label") for option in entries(field.get("options"))}
    chosen = shown([labels.get(line(value)) or value for value in entries(values.get(field["var"]))])
    if not (labels and is_blank):
        return chosen
    options = one_line(", ".join(line(label) or value for value, label in labels.items()))
    return format_html('{} <span class="psc-dim">({})</span>', chosen, _("choices: %(options)s") % {"options": options})
