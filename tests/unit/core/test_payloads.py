"""Test JSON trees, highlighted XML and calendar files: complete, escaped and bounded."""

import re
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest

from pubsubcache.admin import payloads
from pubsubcache.admin.calendar import calendar_of
from pubsubcache.models import PubsubItem, PubsubNode
from tests.examples import EXAMPLES

SCRIPT = "<script>alert(1)</script>"


def text_of(markup: str | None) -> str:
    assert markup is not None
    return unescape(re.sub(r'<span class="psc-count">\d+</span>|<[^>]*>', "", markup))


def test_a_tree_shows_all_of_the_json() -> None:
    value = {"a": [1, None, {"b": "é\n"}], "c": {}, "": True, SCRIPT: SCRIPT, "d\u202e": "\u202e"}
    shown = payloads.json_tree(value)
    expected = '{"a": [1,null,{"b": "é\\n"}],"c": {},"": true,"SCRIPT": "SCRIPT","d\\u202e": "\\u202e"}'
    assert text_of(shown).replace("\u200b", "") == expected.replace("SCRIPT", SCRIPT)
    assert "<script" not in str(shown)
    assert str(shown).count("<details open>") == 3


@pytest.mark.parametrize("value", [[0] * payloads.MAX_VALUES, [[[]] * 1000] * 1000])
def test_large_json_is_no_tree(value: Any) -> None:
    assert payloads.json_tree(value) is None


def test_deep_json_is_no_tree() -> None:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    assert payloads.json_tree(value) is None


def test_highlighted_xml_is_complete_and_escaped() -> None:
    for example in EXAMPLES:
        shown = payloads.highlighted(example.text)
        assert text_of(shown) == example.text
    xml = '<a b="&lt;script&gt;" c:d="é">&amp;&lt;\u202e<e/></a>'
    shown = payloads.highlighted(xml)
    assert text_of(shown) == xml.replace("\u202e", "\\u202e")
    assert "<script" not in str(shown)
    assert payloads.highlighted("<" * payloads.MAX_XML) is not None
    assert payloads.highlighted("x" * (payloads.MAX_XML + 1)) is None


def event(**parsed: Any) -> str | None:
    node = PubsubNode(service="pubsub.example.org", name="urn:xmpp:calendar-events:0")
    made = PubsubItem(node=node, name="fair;1", parsed=parsed, updated=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    return calendar_of(made)


def test_an_event_becomes_a_calendar_file() -> None:
    fair = next(example for example in EXAMPLES if example.name == "calendar-events").parsed()
    text = event(**fair)
    assert text is not None
    lines = text.replace("\r\n ", "").split("\r\n")
    assert lines[:3] == ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//pubsubcache//EN"]
    for line in (
        "UID:xmpp:pubsub.example.org?\\;node=urn%3Axmpp%3Acalendar-events%3A0\\;item=fair%3B1",
        "DTSTAMP:20260102T030405Z",
        "DTSTART:20260515T080000Z",
        "DTEND:20260515T160000Z",
        "SUMMARY:Plant fair",
        "DESCRIPTION:Bring your seedlings.",
        "LOCATION:The old nursery",
        "URL:https://fair.garden.example",
        "STATUS:CONFIRMED",
    ):
        assert line in lines
    assert lines[-3:] == ["END:VEVENT", "END:VCALENDAR", ""]


def test_days_of_an_event_include_the_last() -> None:
    text = event(start="2026-06-06T00:00:00Z", end="2026-06-07T00:00:00Z", all_day=True)
    assert "DTSTART;VALUE=DATE:20260606\r\nDTEND;VALUE=DATE:20260608\r\n" in str(text)


def test_values_of_an_event_cannot_add_lines() -> None:
    hostile = "a\r\nATTACH:x\u2028b,c;d\\\x00" + "é" * 100_000
    text = event(
        start="2026-06-06T00:00:00Z", title=hostile, description=hostile, locations=[{"place": {"text": hostile}}]
    )
    assert text is not None
    lines = text.split("\r\n")
    assert not [line for line in lines if line.startswith("ATTACH")]
    assert max(len(line.encode()) for line in lines) <= 75
    assert len(text) < 60_000
    assert "\\nATTACH:x\\nb\\,c\\;d\\\\" in text.replace("\r\n ", "")


@pytest.mark.parametrize("parsed", [{}, {"start": None}, {"start": 7}, {"start": "soon"}, {"start": "2026-01-01"}])
def test_other_items_are_no_events(parsed: dict[str, Any]) -> None:
    assert event(**parsed) is None
