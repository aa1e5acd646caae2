"""Test how the parsers handle unusual and broken payloads, field by field."""

from typing import Any
from xml.etree.ElementTree import SubElement, tostring

import pytest

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import ParseContext, avatar, conversion, elements, encrypted, text, uris
from pubsubcache.parsers.generic import parse_any
from tests.unit.parsers.entries import check_texts
from tests.unit.parsers.payloads import OWNER, PARSERS, item, parse, rest_of

K32 = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


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
    assert (parsed["chat"], parsed["stanza_id"], parsed["by"]) == ("roses@rooms.example/Otto", None, None)


def test_displayed_markers_keep_what_the_xep_does_not_have() -> None:
    stanza_ids = (
        "<stanza-id xmlns='urn:xmpp:sid:0' id=' 1 ' by='otto@hedge.example/phone' lang='x'/>"
        "<stanza-id xmlns='urn:xmpp:sid:0' id='2'/>"
    )
    payload = f"<displayed xmlns='urn:xmpp:mds:displayed:0' xml:lang='en'>{stanza_ids}</displayed>"
    parsed = parse("displayed", payload, item_id="otto@hedge.example")
    assert (parsed["stanza_id"], parsed["by"]) == (" 1 ", "otto@hedge.example")
    assert rest_of(parsed) == [
        ("", "displayed", {"{http://www.w3.org/XML/1998/namespace}lang": "en"}, None),
        ("displayed", "stanza-id", {"by": "otto@hedge.example/phone", "lang": "x"}, None),
        ("displayed", "stanza-id", {"id": "2"}, None),
    ]


def bookmark(inner: str, space: str = "urn:xmpp:bookmarks:1") -> Any:
    return parse("bookmarks", f"<conference xmlns='{space}'>{inner}</conference>", item_id="room@rooms.example")


@pytest.mark.parametrize("space", ["urn:xmpp:bookmarks:1", "urn:xmpp:bookmarks:0"])
def test_passwords_of_bookmarks_are_nowhere(space: str) -> None:
    secret = "<password>hunter2<b n='hunter2'>hunter2</b></password>"
    twice = f"{secret}</conference><conference xmlns='{space}' name='second'>{secret}"
    for inner in (secret, secret + secret, twice):
        parsed = bookmark(inner, space)
        assert parsed["has_password"] is True
        assert "hunter2" not in str(parsed)
    assert ("", "conference", {"name": "second"}, None) in rest_of(bookmark(twice, space))


@pytest.mark.parametrize("space", ["urn:xmpp:bookmarks-pinning:0", "xmpp:movim.eu/pinned:0"])
def test_pinned_bookmarks(space: str) -> None:
    """XEP-0469, and the namespace of Movim before it."""
    parsed = bookmark(f"<extensions><pinned xmlns='{space}'/><pinned xmlns='urn:x'/></extensions>")
    assert parsed["pinned"] is True
    assert parsed["extensions"] == [{"namespace": space, "name": "pinned"}, {"namespace": "urn:x", "name": "pinned"}]
    assert bookmark("<extensions><pinned xmlns='urn:x'/></extensions>")["pinned"] is False


def test_settings_of_notifications_that_the_xep_does_not_have() -> None:
    inner = (
        "<notify xmlns='urn:xmpp:notification-settings:1'><always identity-category='client' volume='3'>loud</always>"
        "<hourly/><never><advanced><a xmlns='urn:a' b='c'>d</a></advanced><advanced><e xmlns='urn:e'/></advanced>"
        "</never></notify><notify xmlns='urn:xmpp:notification-settings:1'><never/></notify>"
    )
    parsed = bookmark(f"<extensions>{inner}</extensions><extensions><f xmlns='urn:f'/></extensions>")
    assert parsed["notify"] == [
        {"setting": "always", "category": "client", "type": None, "advanced": []},
        {"setting": "never", "category": None, "type": None, "advanced": [{"namespace": "urn:a", "name": "a"}]},
    ]
    assert parsed["extensions"] == [{"namespace": "urn:xmpp:notification-settings:1", "name": "notify"}]
    inside = "conference/extensions/notify"
    assert rest_of(parsed) == [
        (inside, "always", {"volume": "3"}, "loud"),
        (inside, "hourly", {}, None),
        (f"{inside}/never/advanced", "a", {"b": "c"}, "d"),
        (f"{inside}/never", "advanced", {}, None),
        ("conference/extensions", "notify", {}, None),
        ("conference", "extensions", {}, None),
    ]


def test_many_extensions() -> None:
    inner = "".join(f"<x{number} xmlns='urn:x'/>" for number in range(elements.MAX_ELEMENTS + 2))
    parsed = bookmark(f"<extensions><pinned xmlns='urn:xmpp:bookmarks-pinning:0'/>{inner}</extensions>")
    assert len(parsed["extensions"]) == elements.MAX_ELEMENTS + 1
    last = [f"x{elements.MAX_ELEMENTS}", f"x{elements.MAX_ELEMENTS + 1}"]
    assert [one["name"] for one in parsed["rest"]] == last


# People


@pytest.mark.parametrize("rating", ["0", "11", "-1", "good"])
def test_a_rating_out_of_range(rating: str) -> None:
    payload = f"<tune xmlns='http://jabber.org/protocol/tune'><rating>{rating}</rating><length>x</length></tune>"
    parsed = parse("tune", payload)
    assert (parsed["playing"], parsed["rating"], parsed["length"]) == (True, None, None)
    assert rest_of(parsed) == [("tune", "rating", {}, rating), ("tune", "length", {}, "x")]


def test_artists_and_titles_of_tunes() -> None:
    inner = "<artist>A</artist><artist xml:lang='cy'>B</artist><artist> </artist><title xml:lang='de'>T</title>"
    parsed = parse("tune", f"<tune xmlns='http://jabber.org/protocol/tune' xml:lang='en'>{inner}</tune>")
    assert (parsed["artist"], parsed["title"], parsed["source"]) == ("A", "T", None)
    assert parsed["artists"] == [{"language": "en", "text": "A"}, {"language": "cy", "text": "B"}]
    assert (parsed["titles"], parsed["sources"]) == ([{"language": "de", "text": "T"}], [])
    assert (parsed["default_language"], parsed["language"], parsed["rest"]) == ("en", None, [])


def test_a_mood_in_words_alone() -> None:
    parsed = parse("mood", "<mood xmlns='http://jabber.org/protocol/mood' xml:lang='de'><text>so so</text></mood>")
    assert (parsed["mood"], parsed["text"], parsed["language"]) == (None, "so so", "de")
    assert parsed["texts"] == [{"language": "de", "text": "so so"}]


def test_a_mood_with_a_long_name() -> None:
    name = "m" * 10_000
    assert parse("mood", f"<mood xmlns='http://jabber.org/protocol/mood'><{name}/></mood>")["mood"] == "m" * 255


def test_a_mood_in_two_languages_with_words_of_others() -> None:
    inner = (
        "<happy><glad/><text>inside</text><o xmlns='urn:o' n='1'/><p xmlns='urn:p'/></happy><sad/>"
        "<text xml:lang='en'>x</text>"
    )
    parsed = parse("mood", f"<mood xmlns='http://jabber.org/protocol/mood' xml:lang='de'>{inner}</mood>")
    assert (parsed["mood"], parsed["detail"]) == ("happy", {"namespace": "urn:o", "name": "o"})
    assert (parsed["language"], parsed["default_language"]) == ("en", "de")
    assert rest_of(parsed) == [
        ("mood/happy", "glad", {}, None),
        ("mood/happy", "text", {}, "inside"),
        ("mood/happy", "o", {"n": "1"}, None),
        ("mood/happy", "p", {}, None),
        ("mood", "sad", {}, None),
    ]


def test_a_mood_after_many_other_elements() -> None:
    others = "<x xmlns='urn:x'/>" * (elements.MAX_ELEMENTS + 1)
    assert parse("mood", f"<mood xmlns='http://jabber.org/protocol/mood'>{others}<happy/></mood>")["mood"] == "happy"


def activity(inner: str) -> Any:
    return parse("activity", f"<activity xmlns='http://jabber.org/protocol/activity'>{inner}</activity>")


def test_an_activity_with_text_and_details_on_all_levels() -> None:
    parsed = activity(
        "<relaxing><partying><text>3</text><a xmlns='urn:a'/><b xmlns='urn:b'/>words</partying><c xmlns='urn:c'/>"
        "<text>2</text></relaxing><text xml:lang='en'>1</text>"
    )
    assert (parsed["general"], parsed["specific"]) == ("relaxing", "partying")
    assert [one["name"] for one in parsed["details"]] == ["a", "b", "c"]
    assert parsed["detail"] == {"namespace": "urn:a", "name": "a"}
    assert [text["text"] for text in parsed["texts"]] == ["1", "2", "3"]
    assert (parsed["text"], parsed["language"]) == ("1", "en")
    assert rest_of(parsed) == [("activity/relaxing", "partying", {}, "words")]


def test_a_second_activity_is_not_lost() -> None:
    parsed = activity("<relaxing><reading/><sleeping/></relaxing><working/><text xml:lang='de'/><text>x</text>")
    assert (parsed["general"], parsed["specific"], parsed["text"]) == ("relaxing", "reading", "x")
    assert [name for _, name, _, _ in rest_of(parsed)] == ["sleeping", "working", "text"]


@pytest.mark.parametrize("text", ["Mira", " Mi<b>ra</b> "])
def test_nicknames(text: str) -> None:
    space = "http://jabber.org/protocol/nick"
    parsed = parse("nickname", f"<nick xmlns='{space}' xml:lang='fr'>{text}</nick><nick xmlns='{space}'>Second</nick>")
    assert (parsed["nick"], parsed["language"]) == ("Mira", "fr")
    assert ("", "nick", {}, "Second") in rest_of(parsed)


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


HASH = "96f1234b5d5fa3e66d3a3a87f6d0df4ff6fab6d2"


def metadata(inner: str, item_id: str = HASH) -> Any:
    return parse("avatar-metadata", f"<metadata xmlns='{avatar.METADATA}'>{inner}</metadata>", item_id=item_id)


@pytest.mark.parametrize("item_id", [avatar.METADATA, "urn:xmpp:spaces:avatar:metadata:0", "current"])
def test_the_hash_of_a_picture_whose_item_has_another_id(item_id: str) -> None:
    """Such as those of Movim's communities and of spaces (XEP-0503)."""
    other = "e279f80c38f99c1e7e53e262b440993b2f7eea57"
    inner = f"<info id='{other}' type='image/gif'/><info id='{HASH}' type='image/png'/>"
    assert metadata(inner, item_id)["sha1"] == HASH
    assert metadata(f"<info id='{other}'/><info id='x' type='image/png'/>", item_id)["sha1"] == other
    assert metadata("<info id='x'/>", item_id)["sha1"] is None
    assert metadata(inner, other)["sha1"] == other


def test_several_metadata_in_an_item() -> None:
    """XEP-0503, 5.2.1."""
    parsed = metadata(
        f"<info id='a'/></metadata><metadata xmlns='{avatar.METADATA}' n='1'><info id='b'/><pointer id='c'/>"
    )
    assert [picture["id"] for picture in parsed["pictures"]] == ["a", "b"]
    assert [pointer["id"] for pointer in parsed["pointers"]] == ["c"]
    assert rest_of(parsed) == [("", "metadata", {"n": "1"}, None)]


def test_unusual_pictures() -> None:
    parsed = metadata(
        "<info bytes='-1' width='1.5' height='7' url='javascript:x()' type='image/png' colour='red'>text"
        "<thumbnail xmlns='urn:xmpp:thumbs:1' uri='cid:x'/></info>"
        "<pointer><a xmlns='urn:a'/><b xmlns='urn:b'/></pointer>"
    )
    (picture,), (pointer,) = parsed["pictures"], parsed["pointers"]
    assert (picture["size"], picture["width"], picture["height"], picture["url"]) == (None, None, 7, None)
    unknown = dict.fromkeys(("id", "media_type", "size", "width", "height"))
    assert pointer == {**unknown, "namespace": "urn:a", "name": "a"}
    assert rest_of(parsed) == [
        ("metadata", "info", {"bytes": "-1", "width": "1.5", "url": "javascript:x()", "colour": "red"}, "text"),
        ("metadata/info", "thumbnail", {"uri": "cid:x"}, None),
        ("metadata/pointer", "b", {}, None),
    ]


@pytest.mark.parametrize(
    ("inner", "expected"), [("", False), ("<stop/>", False), ("<info/>", True), ("<info/><stop/>", False)]
)
def test_enabled_avatars(inner: str, expected: bool) -> None:
    assert metadata(inner)["enabled"] is expected


def test_the_data_of_avatars_is_nowhere() -> None:
    parsed = parse("avatar-data", f"<data xmlns='{avatar.DATA}' type='image/png'>iVBORw0KGgphIHNtYWxsIHJvc2U=</data>")
    assert "iVBOR" not in str(parsed)
    assert rest_of(parsed) == [("", "data", {"type": "image/png"}, None)]


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
    assert parsed["keys"] == []
    attributes = {"v4-fingerprint": fingerprint, "date": "x"}
    assert rest_of(parsed) == [("public-keys-list", "pubkey-metadata", attributes, None)]


def test_a_list_of_keys_with_an_unreadable_date() -> None:
    key = f"<pubkey-metadata v4-fingerprint='{'ab' * 20}' date='soon' v6-fingerprint='x'/>"
    parsed = parse("openpgp", f"<public-keys-list xmlns='urn:xmpp:openpgp:0'>{key}</public-keys-list>")
    assert parsed["keys"] == [{"fingerprint": "AB" * 20, "date": None}]
    assert rest_of(parsed) == [("public-keys-list", "pubkey-metadata", {"date": "soon", "v6-fingerprint": "x"}, None)]


def test_the_date_of_a_key() -> None:
    def date(attributes: str, item_id: str) -> Any:
        return parse("openpgp", f"<pubkey xmlns='urn:xmpp:openpgp:0'{attributes}/>", item_id=item_id)["date"]

    assert date("", "2026-01-05T16:26:12+01:00") == "2026-01-05T15:26:12Z"
    assert date(" date='2025-01-05'", "2026-01-05") == "2025-01-05T00:00:00Z"
    assert date(" date='soon'", "2026-01-05") == "2026-01-05T00:00:00Z"
    assert date("", "current") is None


def test_the_data_of_keys_is_nowhere() -> None:
    for payload in (
        "<pubkey xmlns='urn:xmpp:openpgp:0'><data>bm90IHJl</data></pubkey>",
        "<secretkey xmlns='urn:xmpp:openpgp:0' n='bm90'>bm90IHJl<b>bm90</b></secretkey>",
        "<pubkey xmlns='urn:xmpp:openpgp:0'/><secretkey xmlns='urn:xmpp:openpgp:0'>bm90</secretkey>",
        "<secretkey xmlns='urn:xmpp:openpgp:0'/><secretkey xmlns='urn:xmpp:openpgp:0'>bm90</secretkey>",
    ):
        assert "bm90" not in str(parse("openpgp", payload))
    public = "<pubkey xmlns='urn:xmpp:openpgp:0' date='2026-01-05'/>"
    parsed = parse("openpgp", f"<secretkey xmlns='urn:xmpp:openpgp:0'>bm90</secretkey>{public}")
    assert (parsed["secret"], parsed["size"]) == (True, 3)
    assert rest_of(parsed) == [("", "pubkey", {"date": "2026-01-05"}, None)]


def test_a_bundle_in_a_node_of_a_former_namespace() -> None:
    parsed = parse(
        "omemo", f"<bundle xmlns='urn:xmpp:omemo:1'><ik>{K32}</ik></bundle>", "urn:xmpp:omemo:1:bundles", "7"
    )
    assert (parsed["device"], parsed["prekeys"], parsed["has_signature"]) == (7, 0, False)


@pytest.mark.parametrize("space", ["urn:xmpp:omemo:0", "eu.siacs.conversations.axolotl"])
def test_bundles_of_old_versions(space: str) -> None:
    inner = (
        f"<signedPreKeyPublic signedPreKeyId='3'>{K32}</signedPreKeyPublic><signedPreKeySignature>{K32}"
        f"</signedPreKeySignature><identityKey>{K32}</identityKey><prekeys><preKeyPublic preKeyId='5'>{K32}"
        "</preKeyPublic></prekeys>"
    )
    parsed = parse("omemo", f"<bundle xmlns='{space}'>{inner}</bundle>", f"{space}:bundles:7", "current")
    assert (parsed["device"], parsed["signed_prekey_id"], parsed["has_signature"]) == (7, 3, True)
    assert (parsed["prekeys"], parsed["prekey_ids"], parsed["rest"]) == (1, [5], [])


def test_an_unusual_bundle() -> None:
    inner = (
        f"<spk id='x'>{K32}</spk><spk id='2'>again</spk><ik>no base-64</ik><prekeys n='1'><pk id='1'>{K32}</pk>"
        f"<pk>{K32}</pk><pk id='-1'>{K32}</pk><pk id='1'>{K32}</pk></prekeys>"
    )
    parsed = parse("omemo", f"<bundle xmlns='urn:xmpp:omemo:2'>{inner}</bundle>", "urn:xmpp:omemo:2:bundles", "7")
    assert (parsed["signed_prekey_id"], parsed["identity_key"], parsed["prekeys"]) == (None, None, 4)
    assert parsed["prekey_ids"] == [1, 1]
    assert rest_of(parsed) == [
        ("bundle", "spk", {"id": "x"}, None),
        ("bundle", "spk", {"id": "2"}, None),
        ("bundle", "prekeys", {"n": "1"}, None),
        ("bundle/prekeys", "pk", {"id": "-1"}, None),
    ]


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("devices", "urn:xmpp:omemo:2"),
        ("devices", "urn:xmpp:omemo:1"),
        ("list", "urn:xmpp:omemo:0"),
        ("list", "eu.siacs.conversations.axolotl"),
    ],
)
def test_devices(name: str, space: str) -> None:
    inner = (
        "<device id='1' label='A' labelsig='c2ln'/><device id='1' label='B'/><device label='no id'/>"
        "<device id='2' rank='3'/>"
    )
    parsed = parse("omemo", f"<{name} xmlns='{space}'>{inner}</{name}>")
    assert parsed["devices"] == [
        {"id": 1, "label": "A", "labelsig": "c2ln"},
        {"id": 2, "label": None, "labelsig": None},
    ]
    assert parsed["repeated"] == [{"id": 1, "label": "B", "labelsig": None}]
    assert rest_of(parsed) == [(name, "device", {"label": "no id"}, None), (name, "device", {"rank": "3"}, None)]


def test_devices_in_two_namespaces() -> None:
    old = "<list xmlns='eu.siacs.conversations.axolotl'><device id='2'/></list>"
    parsed = parse("omemo", f"<devices xmlns='urn:xmpp:omemo:2'><device id='1'/></devices>{old}")
    assert [device["id"] for device in parsed["devices"]] == [1]
    assert parsed["rest"][0]["children"][0]["attributes"] == {"id": "2"}


# Public subscriptions and events


def test_subscription_without_a_node() -> None:
    parsed = parse("public-subscriptions", "<subscription xmlns='urn:xmpp:pps:0' jid='a b'/>")
    assert (parsed["subscriber"], *(parsed[key] for key in ("service", "node", "uri", "title"))) == (OWNER, *[None] * 4)
    assert rest_of(parsed) == [("", "subscription", {"jid": "a b"}, None)]
    parsed = parse("public-subscriptions", "<subscription xmlns='urn:xmpp:pps:0' jid='A.example'/>")
    assert (parsed["service"], parsed["node"], parsed["uri"]) == ("a.example", None, None)
    parsed = parse("public-subscriptions", "<subscription xmlns='urn:xmpp:pps:0' node=' n '/>")
    assert (parsed["service"], parsed["node"], parsed["uri"]) == (None, " n ", None)


@pytest.mark.parametrize(
    ("space", "service", "other"),
    [("urn:xmpp:pps:0", "j.example", "server"), ("urn:xmpp:pubsub:subscription:0", "s.example", "jid")],
)
def test_a_subscription_with_two_services(space: str, service: str, other: str) -> None:
    attributes = {"jid": "j.example", "server": "s.example"}
    parsed = parse("subscriptions", f"<subscription xmlns='{space}' jid='j.example' server='s.example' node='n'/>")
    assert (parsed["service"], parsed["uri"]) == (service, f"xmpp:{service}?;node=n")
    assert rest_of(parsed) == [("", "subscription", {other: attributes[other]}, None)]
    # Some clients use the other attribute alone.
    parsed = parse("subscriptions", f"<subscription xmlns='{space}' {other}='o.example' node='n'/>")
    assert parsed["service"] == "o.example"


def test_a_subscriber_with_more_than_a_jid() -> None:
    space, node = "urn:xmpp:pps:0", "urn:xmpp:pps:subscribers:0/a/b"
    inner = f"<subscriber xmlns='{space}' jid='otto@hedge.example/x' since='1'/><subscriber xmlns='{space}' jid='a@b'/>"
    parsed = parse("public-subscriptions", inner, node)
    assert (parsed["subscriber"], parsed["service"], parsed["node"]) == ("otto@hedge.example", OWNER, "a/b")
    assert rest_of(parsed) == [
        ("", "subscriber", {"jid": "otto@hedge.example/x", "since": "1"}, None),
        ("", "subscriber", {"jid": "a@b"}, None),
    ]
    with pytest.raises(ParseError):
        parse("public-subscriptions", inner, "urn:xmpp:pps:subscriptions:0")


# Encrypted items


@pytest.mark.parametrize(("namespace", "name"), list(encrypted.SCHEMES))
@pytest.mark.parametrize("analyser", list(PARSERS))
def test_an_encrypted_item_is_recognised_whatever_the_node_is_for(analyser: str, namespace: str, name: str) -> None:
    payload = f"<{name} xmlns='{namespace}'> secret <b>words</b></{name}>"
    parsed = parse(analyser, payload)
    assert parsed["encrypted"] is True
    assert (parsed["scheme"], parsed["size"]) == (encrypted.SCHEMES[namespace, name], len("secretwords"))
    assert "secret" not in parsed.values()


def encrypted_item(inner: str, space: str = "urn:xmpp:omemo:2") -> Any:
    return parse("encrypted-pte", f"<encrypted xmlns='{space}'>{inner}</encrypted>")


def test_recipients_of_encrypted_items() -> None:
    parsed = encrypted_item(
        "<header sid='7'><keys jid='a@b.example'><key rid='1' kex='1'>SECRET</key><key rid='x'>SECRET</key></keys>"
        "<keys jid='c@d.example/e'/><keys/><key rid='2' prekey='true' kex='maybe'>SECRET</key><iv>SECRET</iv></header>"
        "<header sid='8'/><payload>SECRET</payload>"
    )
    assert parsed["sender_device"] == 7
    assert parsed["recipients"] == [
        {"jid": "a@b.example", "devices": [{"id": 1, "key_exchange": True}]},
        {"jid": "c@d.example", "devices": []},
        {"jid": None, "devices": []},
        {"jid": None, "devices": [{"id": 2, "key_exchange": True}]},
    ]
    assert "SECRET" not in str(parsed)
    assert rest_of(parsed) == [
        ("encrypted/header/keys", "key", {"rid": "x"}, None),
        ("encrypted/header", "keys", {"jid": "c@d.example/e"}, None),
        ("encrypted/header", "key", {"kex": "maybe"}, None),
        ("encrypted", "header", {"sid": "8"}, None),
    ]


@pytest.mark.parametrize(
    ("space", "local"),
    [("urn:xmpp:omemo:2", "encrypted"), ("urn:future", "encrypted"), ("urn:xmpp:openpgp:0", "openpgp")],
)
def test_what_targeted_encryption_wraps(space: str, local: str) -> None:
    """XEP-0477. The encryption inside may be one that did not exist yet."""
    content = "SECRET" if local == "openpgp" else "<header sid='7'/><payload>SECRET</payload>"
    parsed = encrypted_item(f"<{local} xmlns='{space}'>{content}</{local}>words<encrypted/>", "urn:xmpp:pte:0")
    assert parsed["sender_device"] == (None if local == "openpgp" else 7)
    assert "SECRET" not in str(parsed)
    assert ("", "encrypted", {}, "words") in rest_of(parsed)


def test_encryption_in_an_odd_namespace() -> None:
    """Services that do not check namespaces forward it."""
    root = item("<encrypted xmlns='urn:xmpp:pte:0'/>")
    inside = SubElement(root[0], "{urn:x}y[1]}encrypted")
    SubElement(inside, "{urn:x}y[1]}header", sid="7")
    assert encrypted.parse_encrypted(root, ParseContext(OWNER, "n"))["sender_device"] == 7


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [("key='a'", "a"), ("secret='b'", "b"), ("key='a' secret='b'", "a"), ("", None)],
)
def test_ids_of_shared_secrets(attributes: str, expected: str | None) -> None:
    """XEP-0473; the attribute had another name in a draft."""
    parsed = parse("encrypted-oxps", f"<encrypted xmlns='{encrypted.OXPS}' {attributes}>SECRET</encrypted>")
    assert parsed["key"] == expected
    assert [one[2] for one in rest_of(parsed)] == ([{"secret": "b"}] if "secret" in attributes else [])


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
    parsed: Any = parser(root, ParseContext(OWNER, "n"))
    assert parsed["others"] == [{"namespace": "urn:x", "name": "x"}]
    assert len(parse_any(root, ParseContext(OWNER, "n"))["payloads"]) == 1
    assert tostring(root) == before


def test_a_flag_that_a_message_key_does_not_have_is_kept() -> None:
    """`kex` belongs to the keys of current versions of OMEMO, `prekey` to those of older ones."""
    keys = "<keys jid='a@b.example'><key rid='1' kex='true' prekey='no'/></keys><key rid='2' kex='1' prekey='0'/>"
    found = parse(
        "encrypted-pte",
        f"""
        <encrypted xmlns='urn:xmpp:pte:0'><encrypted xmlns='urn:xmpp:omemo:2'><header>{keys}</header></encrypted>
        </encrypted>""",
    )
    assert found["recipients"] == [
        {"jid": "a@b.example", "devices": [{"id": 1, "key_exchange": True}]},
        {"jid": None, "devices": [{"id": 2, "key_exchange": False}]},
    ]
    assert [one["attributes"] for one in found["rest"]] == [{"prekey": "no"}, {"kex": "1"}]
