"""Test that the documented schemas match the results of the built-in analysers."""

import ast
import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from pubsubcache.analysers import builtin
from pubsubcache.analysers.builtin import builtin_analysers
from pubsubcache.parsers import ParseContext, conversion
from pubsubcache.parsers.generic import parse_any
from tests.examples import EXAMPLES
from tests.unit.test_docs import page, rows, section, tokens

# The section of each schema, and the examples that it describes.
SCHEMAS = {
    "Attachments": [
        *("attachments", "attachments.answer", "attachments.encrypted", "attachments.noticed", "attachments.others"),
        "attachments.rsvp",
    ],
    "Summaries of attachments": ["attachments-summary", "attachments-summary.noticed", "attachments-summary.nothing"],
    "Calendar events": [
        *("calendar-events", "calendar-events.external", "calendar-events.fete", "calendar-events.minimal"),
        *("calendar-events.online", "events"),
    ],
    "Invitees": ["calendar-events.invitee", "calendar-events.invitee-bare"],
    "Forms": [
        *("forms", "forms.layout", "forms.media", "forms.results", "forms.submitted"),
        *("forms.table", "forms.types", "forms.validate", "forms.withdrawn"),
        *("mix-config", "mix-info"),
    ],
    "Tickets": ["tickets", "tickets.markup", "tickets.plain"],
    "Bookmarks": [
        *("bookmarks", "bookmarks.minimal", "bookmarks.pinned", "bookmarks.notify", "bookmarks.former"),
        *("spaces", "spaces.minimal"),
    ],
    "Private bookmarks": ["private-bookmarks", "private-bookmarks.pages"],
    "Displayed messages": ["displayed", "displayed.room"],
    "Avatars": [
        *("avatar-metadata", "avatar-metadata.disabled", "avatar-metadata.pointer", "avatar-metadata.stopped"),
        "movim-banner",
    ],
    "Avatar data": ["avatar-data"],
    "Nicknames": ["nickname", "nickname.language"],
    "Profiles": [
        *("vcard4", "vcard4.full", "vcard4.group", "vcard4.simple", "vcard4-namespace", "vcards", "contacts"),
    ],
    "Moved accounts": ["moved"],
    "Moods": ["mood", "mood.ended", "mood.languages"],
    "Activities": ["activity", "activity.general", "activity.ended", "activity.languages"],
    "Tunes": ["tune", "tune.stopped", "tune.languages"],
    "Places": ["geoloc", "geoloc.full", "geoloc.stopped", "geoloc.unreadable"],
    "Popular reactions": ["popular-reactions"],
    "OMEMO devices": [
        *("omemo.devices", "omemo.former-devices", "omemo.oldest-devices", "omemo-legacy.devices"),
    ],
    "OMEMO bundles": ["omemo.bundle", "omemo.former-bundle", "omemo.oldest-bundle", "omemo-legacy.bundle"],
    "OpenPGP key lists": ["openpgp.keys"],
    "OpenPGP keys": ["openpgp.key", "openpgp.former-key", "openpgp.secret"],
    "Public subscriptions": [
        *("public-subscriptions", "public-subscriptions.subscribers", "subscriptions", "subscriptions.extensions"),
        *("movim-subscriptions", "movim-spaces"),
    ],
    "Links": ["links"],
    "Files": ["file-sharing", "file-sharing.uploaded"],
    "Participants of channels": ["mix-participants", "mix-participants.hidden", "mix-jidmap"],
    "Server information": ["serverinfo", "serverinfo.minimal", "serverinfo.prosody"],
    "Stickers": ["stickers", "stickers.sources"],
    "Encrypted items": [
        *("encrypted-oxps", "encrypted-oxps.draft", "encrypted-pte", "encrypted-pte.legacy", "encrypted-pte.openpgp"),
        *("activity.encrypted", "microblog.encrypted", "nickname.encrypted"),
    ],
    "The built-in microblog": [
        *("microblog", "microblog.repeat", "microblog.reply", "microblog.gallery", "microblog.plain"),
        *("microblog.rich-title", "microblog.alternates", "microblog.categories", "microblog.comment"),
        *("microblog.place", "microblog.languages", "microblog.embeds", "microblog.everything"),
    ],
    "Blogs": ["microblog.feed", "microblog.feed-of-comments"],
}
JSON_TYPES = {
    "text": str, "date": str, "link": str, "JID": str, "markup": str, "number": int | float, "true or false": bool,
    "true": bool, "object": dict, "file": dict, "null": type(None), "list": list,
}  # fmt: skip


def parsed_examples(title: str) -> list[dict[str, Any]]:
    return [example.parsed() for example in EXAMPLES if example.name in SCHEMAS[title]]


def schema(title: str) -> dict[str, str]:
    """Return the keys of a schema's table, with their types."""
    found = [row for row in rows(section("docs/analysers.md", title)) if row[0].strip("| ").startswith("`")]
    return {key: row[1] for row in found for key in re.findall(r"`([\w.]+)`", row[0])}


def all_keys(data: Any, *free: str) -> set[str]:
    """Return all keys in JSON data, except those of objects named in `free`, whose keys users choose."""
    if isinstance(data, dict):
        inner = [all_keys(value, *free) for key, value in data.items() if key not in free]
        return set(data).union(*inner)
    return {key for value in data for key in all_keys(value, *free)} if isinstance(data, list) else set()


def test_every_schema_has_its_section() -> None:
    assert sorted(name for names in SCHEMAS.values() for name in names) == sorted(example.name for example in EXAMPLES)
    text = section("docs/analysers.md", "Schemas of the other built-in analysers")
    assert set(re.findall(r"^### (.+)$", text, re.M)) == set(SCHEMAS) - {"The built-in microblog"} | {"Files"}


@pytest.mark.parametrize("title", SCHEMAS)
def test_every_key_of_a_schema_is_documented(title: str) -> None:
    examples = parsed_examples(title)
    assert examples
    for parsed in examples:
        assert {key for key in schema(title) if "." not in key} == set(parsed)
    assert {key for key in schema(title) if "." in key} == (
        {f"extra.{key}" for key in examples[0]["extra"]} if title == "The built-in microblog" else set()
    )


@pytest.mark.parametrize("title", SCHEMAS)
def test_every_key_within_a_schema_is_documented(title: str) -> None:
    named = " ".join(
        token for name in (title, "Files", "Places", "Forms") for token in tokens(section("docs/analysers.md", name))
    )
    for parsed in parsed_examples(title):
        free = {"values", "items"} | ({"extra"} if "start" in parsed else set())
        assert all_keys(parsed, *free) <= set(re.findall(r"\w+", named))


@pytest.mark.parametrize("title", SCHEMAS)
def test_the_types_of_a_schema_are_those_of_its_values(title: str) -> None:
    for key, words in schema(title).items():
        allowed = [JSON_TYPES[word] for word in kinds(words)]
        values = [value_at(parsed, key) for parsed in parsed_examples(title)]
        for value in values:
            assert any(isinstance(value, kind) for kind in allowed), (key, value)
        assert any(value not in (None, [], {}) for value in values) or key in NEVER_SAID, f"{key} is never shown"


# No example contains these.
NEVER_SAID = {
    *("alt", "altaccuracy", "bearing", "error", "speed", "area", "building", "datum", "description", "floor"),
    *("postalcode", "region", "room", "street", "text", "severity", "anniversary", "gender_text"),
    *("language", "title_xhtml", "summary", "summary_xhtml", "author_email", "source"),
}


def kinds(words: str) -> list[str]:
    """Return the types in a cell, such as "text or null"."""
    if words in JSON_TYPES:
        return [words]
    return ["list" if word.startswith("list of ") else word for word in words.split(" or ")]


def value_at(parsed: Any, path: str) -> Any:
    for key in path.split("."):
        parsed = parsed[key]
    return parsed


def test_files_are_documented() -> None:
    events = parsed_examples("Calendar events")
    files = [event["picture"] for event in events if event["picture"]] + [
        one for event in events for one in event["attachments"]
    ]
    assert files
    assert all(set(file) == set(schema("Files")) for file in files)


def test_any_xml_is_documented() -> None:
    parsed = parse_any(fromstring("<item><a/></item>"), ParseContext("s", "n"))
    text = section("docs/analysers.md", "Any XML")
    assert set(schema("Any XML")) == set(parsed)
    assert all_keys(parsed) <= set(re.findall(r"\w+", " ".join(tokens(text))))
    bounds = {str(value) for name, value in vars(conversion).items() if name.startswith("MAX_") and name != "MAX_NAME"}
    assert bounds <= set(re.findall(r"\d+", text))


def test_the_built_in_analysers_are_documented_in_order() -> None:
    documented = [
        [cell.strip("| `") for cell in row[:5]]
        for row in rows(section("docs/analysers.md", "The built-in analysers"))
        if row[0].startswith("`")
    ]
    assert documented == [
        [known.name, known.node or "any", known.namespace or "any", known.type, "yes" if known.to_sync else "no"]
        for known in builtin_analysers()
    ]


def test_every_subtype_of_a_built_in_analyser_is_documented() -> None:
    source = Path(builtin.__file__).read_text()
    subtypes = {
        node.value
        for assignment in ast.walk(ast.parse(source))
        if isinstance(assignment, ast.Assign) and ast.unparse(assignment.targets[0]) == "analysis.subtype"
        for node in ast.walk(assignment.value.body if isinstance(assignment.value, ast.IfExp) else assignment.value)
        if isinstance(node, ast.Constant)
    }
    assert len(subtypes) > 5
    assert subtypes <= tokens(page("docs/analysers.md"))
