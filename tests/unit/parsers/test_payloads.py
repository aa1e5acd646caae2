"""Test how the parsers handle unusual and broken payloads, field by field."""

from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import pytest

from pubsubcache.analysers.builtin import builtin_analysers
from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import ParseContext, attachments, avatar, conversion, elements, encrypted, files, text, uris
from pubsubcache.parsers.generic import parse_any
from tests.unit.parsers.entries import PUBSUB, check_texts

PARSERS = {analyser.name: analyser.parser for analyser in builtin_analysers()}
OWNER = "mira@garden.example"
K32 = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


def item(payload: str, item_id: str = "i1") -> Element:
    return fromstring(f"<item xmlns='{PUBSUB}' id='{item_id}'>{payload}</item>")


def parse(name: str, payload: str, node: str = "n", item_id: str = "i1", publisher: str | None = None) -> Any:
    parser = PARSERS[name]
    assert parser is not None
    parsed = parser(item(payload, item_id), ParseContext(OWNER, node, publisher, OWNER))
    check_texts(parsed)
    return parsed


# Attachments


AT_POND = "urn:xmpp:pubsub-attachments:1/xmpp:otto@hedge.example?;node=blog;item=pond"
NOTICED = "<attachments xmlns='urn:xmpp:pubsub-attachments:1'><noticed/></attachments>"


def test_attachments_belong_to_the_publisher_not_to_the_item_id() -> None:
    """XEP-0470, 4.2: only the service can prevent users from publishing under somebody else's item id."""
    parsed = parse("attachments", NOTICED, AT_POND, "mira@garden.example", publisher="otto@hedge.example/x")
    assert (parsed["jid"], parsed["jid_verified"]) == ("otto@hedge.example", True)
    parsed = parse("attachments", NOTICED, AT_POND, "mira@garden.example")
    assert (parsed["jid"], parsed["jid_verified"]) == ("mira@garden.example", False)
    assert parse("attachments", NOTICED, AT_POND, "no jid")["jid"] is None


@pytest.mark.parametrize("node", ["urn:xmpp:pubsub-attachments:1", "urn:xmpp:pubsub-attachments:1/", "x/http://y", "n"])
def test_attachments_without_a_target(node: str) -> None:
    assert parse("attachments", NOTICED, node)["target"] is None


def test_attachments_without_their_namespace() -> None:
    """As in the examples of XEP-0470."""
    bare = "<attachments><noticed timestamp='2026-03-01'/><reactions><reaction>x</reaction></reactions></attachments>"
    parsed = parse("attachments", bare, AT_POND)
    assert (parsed["noticed_at"], parsed["reactions"]) == ("2026-03-01T00:00:00Z", ["x"])


def test_reactions_are_short_and_few() -> None:
    reactions = "".join(f"<reaction>{number}</reaction>" for number in range(2 * elements.MAX_ELEMENTS))
    long = f"<reaction>{'x' * (attachments.MAX_REACTION + 1)}</reaction><reaction> </reaction><reaction/>"
    payload = (
        f"<attachments xmlns='urn:xmpp:pubsub-attachments:1'><reactions>{long}{reactions}</reactions></attachments>"
    )
    assert len(parse("attachments", payload)["reactions"]) == elements.MAX_ELEMENTS - 3


@pytest.mark.parametrize("count", ["-1", "x", "1.5", "9" * 30, ""])
def test_unreadable_counts_become_one(count: str) -> None:
    space = "urn:xmpp:pubsub-attachments:summary:1"
    parsed = parse(
        "attachments-summary", f"<summary xmlns='{space}'><noticed count='{count}'/></summary>", f"{space}/x"
    )
    assert parsed["noticed"] == 1


def test_an_attendance_without_a_maximum() -> None:
    """XEP-0471, 5.5.1."""
    space = "urn:xmpp:pubsub-attachments:summary:1"
    inner = "<attendees xmlns='urn:xmpp:calendar-events:0' confirmed='5'/>"
    parsed = parse("attachments-summary", f"<summary xmlns='{space}'>{inner}</summary>", f"{space}/x")
    assert parsed["attendees"] == {"confirmed": 5, "max": 5}


# Forms and tickets


def form(inner: str) -> str:
    return f"<x xmlns='jabber:x:data' type='submit'>{inner}</x>"


@pytest.mark.parametrize(("value", "expected"), [("1", "true"), ("TRUE", "true"), ("0", "false"), ("maybe", "false")])
def test_booleans_of_forms(value: str, expected: str) -> None:
    parsed = parse("forms", form(f"<field var='a' type='boolean'><value>{value}</value></field>"))
    assert parsed["values"] == {"a": [expected]}


def test_fields_without_a_name_and_named_twice() -> None:
    inner = (
        "<field><value>x</value></field><field var='a'><value>1</value></field><field var='a'><value>2</value></field>"
    )
    parsed = parse("forms", form(inner + f"<field var='{'v' * 5000}'><value>long</value></field>"))
    assert parsed["values"] == {"a": ["1"], "v" * elements.MAX_NAME: ["long"]}
    assert len(parsed["fields"]) == 4


def test_many_fields_and_values() -> None:
    many = 3 * elements.MAX_ELEMENTS
    fields = "".join(f"<field var='f{number}'/>" for number in range(many))
    assert len(parse("forms", form(fields))["fields"]) == elements.MAX_ELEMENTS
    values = "".join(f"<value>{number}</value>" for number in range(many))
    assert len(parse("forms", form(f"<field var='a'>{values}</field>"))["values"]["a"]) == elements.MAX_ELEMENTS


def test_a_password_is_not_copied() -> None:
    for name in ("forms", "tickets"):
        parsed = parse(name, form("<field var='secret' type='text-private'><value>hunter2</value></field>"))
        assert "hunter2" not in str(parsed)
    bookmark = "<conference xmlns='urn:xmpp:bookmarks:1'><password>hunter2</password></conference>"
    assert "hunter2" not in str(parse("bookmarks", bookmark, item_id="room@rooms.example"))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("<value>a</value><value>b</value>", ("a\nb", None)),
        ("<value/>", (None, None)),
        ("<value><div xmlns='http://www.w3.org/1999/xhtml'><b>x</b></div></value>", ("x", "<div><b>x</b></div>")),
        ("<div xmlns='http://www.w3.org/1999/xhtml'>x<script>y()</script></div>", ("x", "<div>x</div>")),
    ],
)
def test_bodies_of_tickets(field: str, expected: tuple[str, str | None]) -> None:
    parsed = parse("tickets", form(f"<field var='body'>{field}</field>"))
    assert (parsed["body"], parsed["body_xhtml"]) == expected


def test_labels_of_tickets_in_one_text_or_in_many() -> None:
    one = "<field var='labels'><value>gate, shed ,gate,</value></field>"
    many = "<field var='labels'><value>gate</value><value>a, b</value></field>"
    assert parse("tickets", form(one))["tags"] == ["gate", "shed"]
    assert parse("tickets", form(many))["tags"] == ["gate", "a, b"]


@pytest.mark.parametrize("uri", ["javascript:x()", "https://x/y", "xmpp:", "xmpp:a@b", ""])
def test_comments_of_tickets_are_nodes(uri: str) -> None:
    assert parse("tickets", form(f"<field var='comments_uri'><value>{uri}</value></field>"))["comments"] == []


# Bookmarks and displayed markers


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("true", True), ("0", False), ("false", False), ("", False)]
)
def test_autojoin(value: str, expected: bool) -> None:
    parsed = parse(
        "bookmarks", f"<conference xmlns='urn:xmpp:bookmarks:1' autojoin='{value}'/>", item_id="R@rooms.example"
    )
    assert (parsed["autojoin"], parsed["jid"]) == (expected, "r@rooms.example")


def test_bookmark_without_a_valid_room() -> None:
    assert parse("bookmarks", "<conference xmlns='urn:xmpp:bookmarks:0'/>", item_id="current")["jid"] == "current"
    assert parse("bookmarks", "<conference xmlns='urn:xmpp:bookmarks:0'/>", item_id="two words")["jid"] is None


def test_a_person_in_a_room_keeps_the_nickname() -> None:
    """XEP-0490, 4.1: private messages in rooms are marked under the full JID."""
    parsed = parse("displayed", "<displayed xmlns='urn:xmpp:mds:displayed:0'/>", item_id="Roses@rooms.example/Otto")
    assert parsed == {"chat": "roses@rooms.example/Otto", "stanza_id": None, "by": None}


# People


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<lat>90</lat><lon>-180</lon>", (90.0, -180.0)),
        ("<lat>90.1</lat><lon>181</lon>", (None, None)),
        ("<lat>nan</lat><lon>inf</lon>", (None, None)),
        ("<lat>4_8</lat><lon>1e1</lon>", (48.0, 10.0)),
        (f"<lat>{'1' * 60}</lat><lon>north</lon>", (None, None)),
    ],
)
def test_degrees(inner: str, expected: tuple[float | None, float | None]) -> None:
    parsed = parse("geoloc", f"<geoloc xmlns='http://jabber.org/protocol/geoloc'>{inner}</geoloc>")
    assert (parsed["lat"], parsed["lon"]) == expected


@pytest.mark.parametrize("rating", ["0", "11", "-1", "good"])
def test_a_rating_out_of_range(rating: str) -> None:
    payload = f"<tune xmlns='http://jabber.org/protocol/tune'><rating>{rating}</rating><length>x</length></tune>"
    parsed = parse("tune", payload)
    assert (parsed["playing"], parsed["rating"], parsed["length"]) == (True, None, None)


def test_a_mood_in_words_alone() -> None:
    parsed = parse("mood", "<mood xmlns='http://jabber.org/protocol/mood' xml:lang='de'><text>so so</text></mood>")
    assert (parsed["mood"], parsed["text"], parsed["language"]) == (None, "so so", "de")
    assert parsed["texts"] == [{"language": "de", "text": "so so"}]


def test_a_mood_with_a_long_name() -> None:
    name = "m" * 10_000
    assert parse("mood", f"<mood xmlns='http://jabber.org/protocol/mood'><{name}/></mood>")["mood"] == "m" * 255


def test_vcard_values_of_any_type_and_in_groups() -> None:
    inner = (
        "<group name='work'><email><text>a@b</text></email></group><email><parameters><pref>2</pref></parameters>"
        "<text>c@d</text></email><bday><text>in spring</text></bday><gender><identity>it depends</identity></gender>"
        "<photo><uri>data:image/png;base64,AAAA</uri></photo><photo><uri>relative.png</uri></photo>"
    )
    parsed = parse("vcard4", f"<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'>{inner}</vcard>")
    assert [(email["value"], email["pref"]) for email in parsed["emails"]] == [("c@d", 2), ("a@b", None)]
    assert (parsed["birthday"], parsed["gender"], parsed["gender_text"]) == ("in spring", None, "it depends")
    assert parsed["photos"] == []


# Avatars and keys


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"\0\0\0\x20ftypavif", "image/avif"),
        (b"<svg/>", None),
    ],
)
def test_media_types_of_avatars(data: bytes, expected: str | None) -> None:
    import base64

    wrapped = "\n".join(base64.b64encode(data).decode())
    parsed = parse("avatar-data", f"<data xmlns='{avatar.DATA}'>{wrapped}</data>")
    assert (parsed["media_type"], parsed["size"], parsed["matches_id"]) == (expected, len(data), False)


@pytest.mark.parametrize("data", ["", "x", "AAA", "A===", "\u00e4\u00e4\u00e4\u00e4", "<b/>", "AAAA=AAA"])
def test_invalid_base64(data: str) -> None:
    for name, payload in [
        ("avatar-data", f"<data xmlns='{avatar.DATA}'>{data}</data>"),
        ("openpgp", f"<pubkey xmlns='urn:xmpp:openpgp:0'><data>{data}</data></pubkey>"),
    ]:
        assert parse(name, payload, "urn:xmpp:openpgp:0:public-keys:x")["size"] is None


def test_base64_with_white_space() -> None:
    assert text.from_base64(" aG\nVs\tbG8= ") == b"hello"
    assert text.from_base64(None) is None


@pytest.mark.parametrize("fingerprint", ["", "0x12", "zz" * 20, "A" * 39, "A" * 65])
def test_invalid_fingerprints(fingerprint: str) -> None:
    payload = f"<pubkey-metadata v4-fingerprint='{fingerprint}' date='x'/>"
    parsed = parse("openpgp", f"<public-keys-list xmlns='urn:xmpp:openpgp:0'>{payload}</public-keys-list>")
    assert parsed == {"keys": []}


def test_a_bundle_in_a_node_of_a_former_namespace() -> None:
    parsed = parse(
        "omemo", f"<bundle xmlns='urn:xmpp:omemo:1'><ik>{K32}</ik></bundle>", "urn:xmpp:omemo:1:bundles", "7"
    )
    assert (parsed["device"], parsed["prekeys"], parsed["has_signature"]) == (7, 0, False)


# Public subscriptions and events


def test_subscription_without_a_node() -> None:
    parsed = parse("public-subscriptions", "<subscription xmlns='urn:xmpp:pps:0' jid='a b'/>")
    assert parsed == {"subscriber": OWNER, "service": None, "node": None, "uri": None, "title": None}


def event(inner: str) -> Any:
    return parse("calendar-events", f"<event xmlns='urn:xmpp:calendar-events:0'>{inner}</event>")


def test_an_event_with_broken_links() -> None:
    parsed = event(
        "<blog jid='a b' node='n'/><schedule jid='a@b.example'/><comments/><invitees node='n'/>"
        "<location><online><url-data xmlns='http://jabber.org/protocol/url-data' target='javascript:x()'/>"
        "<software url='data:x' need_install='1'/></online></location><start>soon</start>"
    )
    assert [parsed[key] for key in ("blog", "schedule", "comments", "invitees", "start")] == [
        None,
        None,
        [],
        None,
        None,
    ]
    (online,) = parsed["locations"][0]["online"]
    assert (online["url"], online["software"]["url"], online["software"]["need_install"]) == (None, None, True)


def test_descriptions_of_events_are_safe() -> None:
    attack = "<div xmlns='http://www.w3.org/1999/xhtml'><a href='javascript:x()' onclick='y()'>z</a></div>"
    assert event(f"<description type='xhtml'>{attack}</description>")["description_xhtml"] == (
        '<div><a rel="nofollow noopener noreferrer">z</a></div>'
    )


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("<dimensions>3x4</dimensions>", (3, 4)),
        ("<width>3</width><height>4</height><dimensions>9x9</dimensions>", (3, 4)),
        ("<dimension>3 x 4</dimension>", (None, None)),
        ("<width>-3</width>", (None, None)),
        (f"<dimensions>{'9' * 20}x1</dimensions>", (None, None)),
    ],
)
def test_dimensions_of_files(metadata: str, expected: tuple[int | None, int | None]) -> None:
    parsed = files.shared_file(fromstring(f"<f><file xmlns='{files.METADATA}'>{metadata}</file></f>"))
    assert (parsed["width"], parsed["height"]) == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [("cid:a@bob.xmpp.org", "cid:a@bob.xmpp.org"), ("data:image/png;base64,AA", None), ("https://x/y", "https://x/y")],
)
def test_addresses_of_thumbnails(uri: str, expected: str | None) -> None:
    thumbnail = f"<thumbnail xmlns='{files.THUMBNAILS}' uri='{uri}'/>"
    parsed = files.shared_file(fromstring(f"<f><file xmlns='{files.METADATA}'>{thumbnail}</file></f>"))
    assert parsed["thumbnails"][0]["uri"] == expected


# Encrypted items


@pytest.mark.parametrize(("namespace", "name"), list(encrypted.SCHEMES))
@pytest.mark.parametrize("analyser", list(PARSERS))
def test_an_encrypted_item_is_recognised_whatever_the_node_is_for(analyser: str, namespace: str, name: str) -> None:
    payload = f"<{name} xmlns='{namespace}'> secret <b>words</b></{name}>"
    parsed = parse(analyser, payload)
    assert parsed["encrypted"] is True
    assert (parsed["scheme"], parsed["size"]) == (encrypted.SCHEMES[namespace, name], len("secretwords"))
    assert "secret" not in parsed.values()


def test_unencrypted_items_are_rejected() -> None:
    with pytest.raises(ParseError, match="not encrypted in a known way"):
        parse("encrypted-oxps", "<encrypted xmlns='urn:example:rot13'/>")
    with pytest.raises(ParseError, match="no payload"):
        parse("encrypted-pte", "")


# Any XML


def any_json(payload: str) -> Any:
    parsed = parse_any(item(payload), ParseContext(OWNER, "n"))
    check_texts(parsed)
    return parsed


def test_any_xml() -> None:
    payload = "<a xmlns='urn:a' x='1' xml:lang='en'> one <b/> two <c xmlns='urn:c'>three</c></a><d xmlns='urn:d'/>"

    def node(namespace: str, name: str, text: str | None = None, *children: Any, **attributes: str) -> Any:
        found = {"namespace": namespace, "name": name, "attributes": attributes, "text": text}
        return {**found, "children": list(children)}

    first = node("urn:a", "a", "one two", node("urn:a", "b"), node("urn:c", "c", "three"))
    first["attributes"] = {"x": "1", "{http://www.w3.org/XML/1998/namespace}lang": "en"}
    assert any_json(payload) == {"payloads": [first, node("urn:d", "d")], "truncated": False}
    with pytest.raises(ParseError):
        any_json("")


@pytest.mark.parametrize(
    "payload",
    [
        "<a>" * 5000 + "</a>" * 5000,
        "<a>" + "<b/>" * (conversion.MAX_NODES + 1) + "</a>",
        "<a {}/>".format(" ".join(f"x{number}='1'" for number in range(conversion.MAX_ATTRIBUTES + 1))),
        f"<a>{'x' * (conversion.MAX_TEXT + 1)}</a>",
        f"<a x='{'x' * (conversion.MAX_TEXT + 1)}'/>",
    ],
    ids=["depth", "elements", "attributes", "text", "value"],
)
def test_any_xml_is_bounded(payload: str) -> None:
    parsed = any_json(payload)
    assert parsed["truncated"] is True
    assert len(str(parsed)) < 500_000


def test_json_at_the_limits_is_not_truncated() -> None:
    deep = "<a>" * conversion.MAX_DEPTH + "</a>" * conversion.MAX_DEPTH
    wide = "<a/>" * conversion.MAX_NODES
    assert not any_json(deep)["truncated"]
    assert not any_json(wide)["truncated"]
    assert len(any_json(wide)["payloads"]) == conversion.MAX_NODES


# Common helpers


def test_payload_in_the_right_namespace_is_preferred() -> None:
    element = item("<nick>wrong</nick><nick xmlns='http://jabber.org/protocol/nick'>right</nick>")
    assert elements.text_of(elements.payload(element, "nick", "http://jabber.org/protocol/nick")) == "right"
    with pytest.raises(ParseError, match="does not contain <nick/>"):
        elements.payload(item("<nick xmlns='urn:other'/>"), "nick", "http://jabber.org/protocol/nick")


@pytest.mark.parametrize("name", list(PARSERS))
def test_deep_payloads(name: str) -> None:
    """No parser recurses into an item."""
    root = item("")
    for tag in ("{urn:xmpp:stickers:0}pack", "{jabber:x:data}x", "{http://www.w3.org/2005/Atom}entry", *(
        f"{{{space}}}{local}" for space, local in (
            ("urn:xmpp:calendar-events:0", "event"), ("http://jabber.org/protocol/mood", "mood"),
            ("urn:ietf:params:xml:ns:vcard-4.0", "vcard"), ("urn:xmpp:bookmarks:1", "conference"),
            ("http://jabber.org/protocol/nick", "nick"), ("urn:xmpp:pubsub-attachments:1", "attachments"),
        )
    )):  # fmt: skip
        inner = SubElement(root, tag)
        for _ in range(3000):
            inner = SubElement(inner, tag)
    parser = PARSERS[name]
    assert parser is not None
    try:
        check_texts(parser(root, ParseContext(OWNER, "n")))
    except ParseError as error:
        assert str(error).endswith(".")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", 0), (" 7 ", 7), ("9223372036854775807", 2**63 - 1), ("9223372036854775808", None), ("\u0663", None),
     ("+1", None), ("1.0", None), ("", None), (None, None)],
)  # fmt: skip
def test_whole_numbers(value: str | None, expected: int | None) -> None:
    assert elements.integer(value) == expected


def test_references_to_nodes_and_items() -> None:
    assert uris.reference("PubSub.Example", "a/b", " i ") == {
        "uri": "xmpp:pubsub.example?;node=a%2Fb;item=%20i%20",
        "service": "pubsub.example",
        "node": "a/b",
        "item": " i ",
    }
    for service, node in [(None, "n"), ("", "n"), ("a b", "n"), ("a", None), ("a", ""), ("a" * 9000, "n")]:
        assert uris.reference(service, node) is None
    assert uris.full("A@b.example/C") == "a@b.example/C"
    assert uris.full("a b") is None


def test_comments_are_not_elements() -> None:
    from xml.etree.ElementTree import Comment

    root = item("<attachments xmlns='urn:xmpp:pubsub-attachments:1'><x xmlns='urn:x'/></attachments>")
    root.insert(0, Comment("first"))
    root[1].insert(0, Comment("inside"))
    before = tostring(root)
    parser = PARSERS["attachments"]
    assert parser is not None
    parsed: Any = parser(root, ParseContext(OWNER, AT_POND))
    assert parsed["others"] == [{"namespace": "urn:x", "name": "x"}]
    assert len(parse_any(root, ParseContext(OWNER, AT_POND))["payloads"]) == 1
    assert tostring(root) == before
