"""Test the parser of notifications."""

from xml.etree.ElementTree import Element, SubElement, fromstring

import pytest

from pubsubcache.types import Item, Publish, PubsubEvent, Retract, known_id
from pubsubcache.xmpp.notifications import parse_message

OWN = "alice@example.org"


def message(inside: str, attributes: str = "from='pubsub.example.org' type='headline'", beside: str = "") -> Element:
    event = f"<event xmlns='http://jabber.org/protocol/pubsub#event'>{inside}</event>"
    return fromstring(f"<message xmlns='jabber:client' {attributes}>{event}{beside}</message>")


def only(element: Element) -> PubsubEvent:
    (event,) = parse_message(element, OWN)
    return event


def test_items_and_retracts_come_in_the_order_of_the_message() -> None:
    event = only(
        message(
            "<items node='n'><item id='a'><x xmlns='u'/></item><retract id='b'/>"
            "<item id='c' publisher='p@x/r'/></items>"
        )
    )
    assert (event.sender, event.node, event.kind, event.unreadable) == ("pubsub.example.org", "n", "items", "")
    a, b, c = event.changes
    assert isinstance(a, Publish)
    assert isinstance(c, Publish)
    assert (a.item.id, a.has_payload, b) == ("a", True, Retract(id="b"))
    assert (c.item.id, c.has_payload, c.item.publisher) == ("c", False, "p@x/r")


def test_notified_item_has_the_form_of_a_fetched_one() -> None:
    inside = "<title xml:lang='de' b='2' a='1'>a &amp; b</title><pre:x xmlns:pre='urn:x'/>"
    notified = only(message(f"<items node='n'><item id='a'><entry xmlns='urn:e'>{inside}</entry></item></items>"))
    fetched = fromstring(
        f"<q:item xmlns:q='http://jabber.org/protocol/pubsub' id='a'><e:entry xmlns:e='urn:e' xmlns='urn:e'>"
        f"{inside}</e:entry></q:item>"
    )
    (change,) = notified.changes
    assert isinstance(change, Publish)
    assert change.item.xml == Item.from_element(fetched).xml


def test_events_do_not_share_elements_with_the_message() -> None:
    element = message("<items node='n'><item id='a'><x xmlns='u'>before</x></item></items>")
    event = only(element)
    element[0][0][0][0].text = "after"
    (change,) = event.changes
    assert isinstance(change, Publish)
    assert "before" in change.item.xml


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<purge node='n'/>", PubsubEvent(sender="pubsub.example.org", node="n", kind="purge")),
        ("<delete node='n'/>", PubsubEvent(sender="pubsub.example.org", node="n", kind="delete")),
        (
            "<delete node='n'><redirect uri='xmpp:a@b?;node=m'/></delete>",
            PubsubEvent(sender="pubsub.example.org", node="n", kind="delete", redirect="xmpp:a@b?;node=m"),
        ),
        (
            "<subscription node='n' jid='alice@example.org' subscription='none'/>",
            PubsubEvent(
                sender="pubsub.example.org", node="n", kind="subscription", subscription="none", subscriber=OWN
            ),
        ),
        (
            "<configuration node='n'/>",
            PubsubEvent(sender="pubsub.example.org", node="n", kind="configuration", extra={"fields": {}}),
        ),
        (
            "<configuration node='n'><x xmlns='jabber:x:data' type='result'><field var='pubsub#access_model'>"
            "<value>whitelist</value></field><field/></x></configuration>",
            PubsubEvent(
                sender="pubsub.example.org",
                node="n",
                kind="configuration",
                extra={"fields": {"pubsub#access_model": ["whitelist"]}},
            ),
        ),
    ],
)
def test_other_kinds_of_notifications(inside: str, expected: PubsubEvent) -> None:
    assert only(message(inside)) == expected


def test_several_actions_are_several_events() -> None:
    events = parse_message(message("<purge node='n'/><items node='n'><item id='a'/></items><delete node='m'/>"), OWN)
    assert [(event.kind, event.node) for event in events] == [("purge", "n"), ("items", "n"), ("delete", "m")]


@pytest.mark.parametrize("beside", ["<delay xmlns='urn:xmpp:delay' stamp='x'/>", "<x xmlns='jabber:x:delay'/>"])
def test_delay_is_recorded(beside: str) -> None:
    assert only(message("<purge node='n'/>", beside=beside)).delayed
    assert not only(message("<purge node='n'/>")).delayed


@pytest.mark.parametrize(
    ("attributes", "sender"),
    [("", OWN), ("from='a@b/resource'", "a@b/resource"), ("from='PubSub.Example.org'", "PubSub.Example.org")],
)
def test_sender_is_not_normalised(attributes: str, sender: str) -> None:
    assert only(message("<purge node='n'/>", attributes)).sender == sender


@pytest.mark.parametrize(
    "element",
    [
        message("<purge node='n'/>", "from='a@b' type='error'"),
        message(""),
        message("<collection node='n'><associate node='m'/></collection>"),
        message("<purge xmlns='urn:other' node='n'/>"),
        fromstring("<message xmlns='jabber:client'><body>hello</body></message>"),
        fromstring(
            "<message xmlns='jabber:client' from='a@b'><forwarded xmlns='urn:xmpp:forward:0'>"
            "<message xmlns='jabber:client' from='pubsub.example.org'>"
            "<event xmlns='http://jabber.org/protocol/pubsub#event'><purge node='n'/></event>"
            "</message></forwarded></message>"
        ),
    ],
)
def test_other_messages_yield_no_events(element: Element) -> None:
    assert parse_message(element, OWN) == []


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        ("<items node='n'/>", "no item"),
        ("<items node='n'><item><x xmlns='u'/></item></items>", "no id"),
        ("<items node='n'><retract/></items>", "no id"),
    ],
)
def test_unreadable_notifications_give_a_reason(inside: str, reason: str) -> None:
    assert reason in only(message(inside)).unreadable


def test_item_over_the_bounds_is_left_out_of_its_event() -> None:
    element = message("<items node='n'><item id='a'/><item id='deep'/><retract id='b'/></items>")
    deepest = element[0][0][1]
    for _ in range(20_000):
        deepest = SubElement(deepest, "{u}x")
    event = only(element)
    assert event.unreadable == ""
    assert [c.item.id if isinstance(c, Publish) else c.id for c in event.changes] == ["a", "deep", "b"]
    odd = event.changes[1]
    assert isinstance(odd, Publish)
    assert odd.has_payload
    assert "nested deeper" in odd.item.left_out


def test_long_id_has_one_short_form_when_published_and_retracted() -> None:
    name = "x" * 3000
    event = only(message(f"<items node='n'><item id='{name}'/><retract id='{name}'/></items>"))
    published, retracted = event.changes
    assert isinstance(published, Publish)
    assert isinstance(retracted, Retract)
    assert published.item.id == retracted.id == known_id(name)
    assert published.item.left_out


def test_many_items_are_read_once_each() -> None:
    items = "".join(f"<item id='{number}'/>" for number in range(2000))
    event = only(message(f"<items node='n'>{items}</items>"))
    assert [c.item.id for c in event.changes if isinstance(c, Publish)] == [str(number) for number in range(2000)]
