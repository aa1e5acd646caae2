"""Shows JSON as a tree whose branches close without a script, and XML with highlighted names. Everything is escaped."""

import json
import re
from typing import Any

from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from pubsubcache.utils import cleaning

MAX_VALUES = 2000  # of a tree
MAX_DEPTH = 30
MAX_XML = 50_000  # characters; each name becomes several times as long

_TAG = re.compile(r"<(/?)([^\s<>/\"]++)([^<>]*+)>")
_ATTRIBUTE = re.compile(r'([^\s="<>]++)=("[^"<>]*+")')


def json_tree(value: Any) -> SafeString | None:
    """Return JSON as nested lists that people can open and close; None if it is too large or too deep for that."""
    if not _fits(value):
        return None
    return format_html('<div class="psc-block psc-json" dir="ltr" tabindex="0">{}</div>', _branch("", value, ""))


def _fits(value: Any) -> bool:
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for one in level:
            deeper += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
            count += 1
            if count + len(deeper) > MAX_VALUES:
                return False
        if not (level := deeper):
            return True
    return False


def _branch(key: str, value: Any, comma: str) -> SafeString:
    """Return a value with its key and everything below it. The keys and brackets read like JSON."""
    name = format_html('<span class="psc-key">{}</span>: ', _text(key)) if key else ""
    if not isinstance(value, dict | list) or not value:
        kind = "string" if isinstance(value, str) else "literal"
        return format_html('{}<span class="psc-{}">{}</span>{}', name, kind, _text(value), comma)
    if is_object := isinstance(value, dict):
        children = [(_key(key), child) for key, child in value.items()]
    else:
        children = [("", child) for child in value]
    last = len(children) - 1
    lines = ((_branch(key, child, "" if at == last else ","),) for at, (key, child) in enumerate(children))
    return format_html(
        '<details open><summary>{}{}<span class="psc-count">{}</span></summary><ul>{}</ul>{}{}</details>',
        name,
        "{" if is_object else "[",
        len(children),
        format_html_join("", "<li>{}</li>", lines),
        "}" if is_object else "]",
        comma,
    )


def _key(key: str) -> str:
    return key or "\u200b"  # an empty key is a key too


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")
    return cleaning.visible(text)


def highlighted(xml: str) -> SafeString | None:
    """Return XML in normal form as HTML with marked names of elements and attributes; None if it is too long."""
    if len(xml) > MAX_XML:
        return None
    xml = cleaning.visible(xml)
    pieces: list[str] = []
    at = 0
    for tag in _TAG.finditer(xml):
        pieces += [escape(xml[at : tag.start()]), _tag(*tag.groups())]
        at = tag.end()
    shown = mark_safe("".join([*pieces, escape(xml[at:])]))  # noqa: S308 (each piece is escaped)
    return format_html('<pre class="psc-block psc-xml" dir="ltr" tabindex="0">{}</pre>', shown)


def _tag(slash: str, name: str, rest: str) -> str:
    pieces: list[str] = []
    at = 0
    for found in _ATTRIBUTE.finditer(rest):
        pieces.append(escape(rest[at : found.start()]))
        pieces.append(f'<span class="psc-key">{escape(found[1])}</span>=')
        pieces.append(f'<span class="psc-string">{escape(found[2])}</span>')
        at = found.end()
    return f'&lt;{slash}<span class="psc-name">{escape(name)}</span>{"".join(pieces)}{escape(rest[at:])}&gt;'
