"""Test each built-in analyser with the examples of its XEP and with mutations of them."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any
from xml.etree.ElementTree import Element, fromstring, tostring

import pytest

from pubsubcache.analysers import Analyser, matching, registry
from pubsubcache.analysers.builtin import builtin_analysers
from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import ParseContext
from pubsubcache.parsers.generic import parse_any
from pubsubcache.types import NodeAddress
from pubsubcache.utils import xmlform
from tests.examples import EXAMPLES, SERVICE, Example
from tests.selection import how_many
from tests.unit.parsers.entries import DATE, check_texts
from tests.unit.parsers.mutations import drop_bytes, mutate

NAMES = [analyser.name for analyser in builtin_analysers()]
ANY = "any XML"
MUTATIONS = how_many(150, 3000)  # per analyser: over 100 000 with --long
by_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)


@pytest.fixture(autouse=True)
def _built_in() -> Iterator[None]:
    with registry.temporarily(*builtin_analysers(), replace=True):
        yield


def parser_of(name: str) -> Any:
    analyser = registry.get(name)
    assert isinstance(analyser, Analyser)
    assert analyser.parser is not None
    return analyser.parser


def payload_of(item: Element) -> Element:
    payload = xmlform.first_payload(item)
    assert payload is not None
    return payload


def test_every_analyser_has_an_example() -> None:
    assert {example.analyser for example in EXAMPLES} == set(NAMES)


@by_example
async def test_an_example_is_recognised(example: Example) -> None:
    async def sample() -> Element:
        return fromstring(example.sample)

    analysis = await matching.analyse(example.address, sample)
    assert analysis is not None
    assert analysis.name == example.analyser


@by_example
async def test_analysers_that_match_by_name_need_no_request(example: Example) -> None:
    """All nodes but those for generic payloads are recognised by name."""

    async def sample() -> Element:
        raise LookupError

    kinds = [analyser for analyser in registry.all() if analyser.namespace is None or analyser.name == "microblog"]
    analyser = registry.get(example.analyser)
    if analyser in kinds and example.node.startswith(analyser.node or ""):
        analysis = await matching.analyse(example.address, sample)
        assert analysis is not None
        assert analysis.name == example.analyser
    else:
        with pytest.raises(LookupError):
            await matching.analyse(example.address, sample)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("urn:xmpp:microblog:0", ("microblog", "", True)),
        ("urn:xmpp:microblog:0:comments/new-pond", ("microblog", "comment", True)),
        ("urn:xmpp:calendar-events:0/fairs", ("calendar-events", "", True)),
        ("urn:xmpp:calendar-events:invitees:0/fair", ("calendar-events", "invitees", True)),
        ("urn:xmpp:events:invitees:0/fair", ("events", "invitees", True)),
        ("fdp/template/garden.example/report", ("forms", "template", True)),
        ("fdp/submitted/garden.example/report", ("forms", "submitted", True)),
        ("fdp/submitted/org.salut-a-toi.tickets:0_shed", ("tickets", "", True)),
        ("fdp/template/org.salut-a-toi.tickets:0", ("forms", "template", True)),
        ("urn:xmpp:pubsub-attachments:1/xmpp:a@b?;node=c;item=d", ("attachments", "", True)),
        ("urn:xmpp:pubsub-attachments:summary:1/c", ("attachments-summary", "", True)),
        ("urn:xmpp:avatar:metadata", ("avatar-metadata", "metadata", True)),
        ("urn:xmpp:avatar:data", ("avatar-data", "data", False)),
        ("urn:xmpp:bookmarks:1", ("bookmarks", "", False)),
        ("urn:xmpp:mds:displayed:0", ("displayed", "", False)),
        ("urn:xmpp:omemo:2:devices", ("omemo", "devices", False)),
        ("urn:xmpp:omemo:2:bundles", ("omemo", "bundles", False)),
        ("eu.siacs.conversations.axolotl.devicelist", ("omemo-legacy", "devices", False)),
        ("eu.siacs.conversations.axolotl.bundles:31415", ("omemo-legacy", "bundles", False)),
        ("urn:xmpp:openpgp:0:public-keys", ("openpgp", "keys", False)),
        ("urn:xmpp:openpgp:0:public-keys:1A2B", ("openpgp", "key", False)),
        ("urn:xmpp:openpgp:0:secret-key", ("openpgp", "key", False)),
        ("urn:xmpp:pps:subscriptions:0", ("public-subscriptions", "", True)),
        ("urn:xmpp:pps:subscribers:0/news", ("public-subscriptions", "subscribers", True)),
        ("urn:xmpp:pubsub:subscription", ("subscriptions", "", True)),
        ("http://jabber.org/protocol/mood", ("mood", "", False)),
        ("http://jabber.org/protocol/nick", ("nickname", "", True)),
        ("urn:xmpp:vcard4", ("vcard4", "", True)),
    ],
)
async def test_nodes_are_recognised_by_name(node: str, expected: tuple[str, str, bool]) -> None:
    async def nothing() -> None:
        return None

    analysis = await matching.analyse(NodeAddress(SERVICE, node), nothing)
    assert analysis is not None
    assert (analysis.name, analysis.subtype, analysis.to_sync) == expected


@by_example
async def test_examples_parse_to_the_documented_json(example: Example) -> None:
    parsed = await matching.parse(registry.get(example.analyser), example.as_item(), example.address)
    assert parsed == example.parsed()
    check_texts(parsed)


def dates_of(parsed: Any) -> list[str]:
    """Return all values of keys that hold dates, but those that no parser read."""
    if isinstance(parsed, dict):
        parsed = {key: value for key, value in parsed.items() if key != "rest"}
        found = [value for key, value in parsed.items() if key in DATES and isinstance(value, str)]
        return found + [date for value in parsed.values() for date in dates_of(value)]
    return [date for value in parsed for date in dates_of(value)] if isinstance(parsed, list) else []


DATES = {"published", "updated", "start", "end", "timestamp", "noticed_at", "reactions_at", "date"}


def test_parsed_dates_have_the_format_of_the_cache() -> None:
    dates = [date for example in EXAMPLES for date in dates_of(example.parsed())]
    assert len(dates) > 20
    assert all(DATE.fullmatch(date) for date in dates)


@by_example
def test_a_notification_parses_as_the_answer_to_a_request(example: Example) -> None:
    event = tostring(example.item, encoding="unicode").replace(xmlform.PUBSUB, xmlform.PUBSUB_EVENT)
    parse = parser_of(example.analyser)
    assert parse(fromstring(event), example.context) == example.parsed()


@by_example
def test_parsers_do_not_modify_the_item(example: Example) -> None:
    item = example.item
    parser_of(example.analyser)(item, example.context)
    assert tostring(item) == tostring(example.item)


@by_example
def test_an_empty_payload_has_all_keys(example: Example) -> None:
    """Missing values are null, false or an empty list; no key is ever missing."""
    item = example.item
    payload = payload_of(item)
    tag = payload.tag
    payload.clear()
    payload.tag = tag
    parsed = parser_of(example.analyser)(item, example.context)
    assert set(parsed) == set(example.parsed())
    assert {type(value) for value in parsed.values()} <= {type(None), bool, int, str, list, dict}
    for key, value in example.parsed().items():
        assert isinstance(parsed[key], list) == isinstance(value, list), key


@by_example
def test_an_item_without_its_payload_is_refused(example: Example) -> None:
    item = example.item
    other = fromstring("<note xmlns='urn:example:note'/>")
    for children, expected in (([], "The item has no payload."), ([other], "")):
        item[:] = children
        with pytest.raises(ParseError) as caught:
            parser_of(example.analyser)(item, example.context)
        assert str(caught.value).startswith(expected)
        assert str(caught.value).endswith(".")


CONTEXTS = [
    ParseContext(SERVICE, "node", "no jid", "\ud800"),
    ParseContext("", "", None),
    ParseContext("pubsub.example", "urn:xmpp:pubsub-attachments:1/xmpp:a\x00@b?;node=\ud800", "a@b/c"),
]


def outcome(parse: Any, item: Element, context: ParseContext) -> bool:
    """Return whether an item can be parsed; anything but JSON and `ParseError` fails the test."""
    try:
        parsed = parse(item, context)
    except ParseError as error:
        assert str(error).endswith(".")
        return False
    text = json.dumps(parsed, allow_nan=False)
    assert isinstance(parsed, dict)
    assert json.loads(text) == parsed
    assert "\\u0000" not in text
    check_texts(parsed)
    return True


@pytest.mark.parametrize("name", [*NAMES, ANY])
def test_damaged_items_only_raise_parse_errors(name: str) -> None:
    examples = [example for example in EXAMPLES if name in (example.analyser, ANY)]
    parse, random = parse_any if name == ANY else parser_of(name), Random(name)
    outcomes = {True: 0, False: 0}
    while sum(outcomes.values()) < MUTATIONS:
        example = random.choice(examples)
        item: Element | None
        if random.random() < 0.5:
            item = drop_bytes(random, example.text)
        else:
            item = example.item
            mutate(random, item)
        if item is not None:
            outcomes[outcome(parse, item, random.choice([example.context, *CONTEXTS]))] += 1
    assert min(outcomes.values()) > 0, "the damage was too little or too much"
