"""Test the parsers of places, files, forms, tickets, attachments, events and vCards with unusual payloads.

What a parser does not return under a key of its own must be in the rest, unless it is left out for a reason.
"""

import json
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from pubsubcache.parsers import attachments, dataform, elements, files, vcard4
from pubsubcache.parsers.schema import schemas_of
from tests.unit.parsers.payloads import PARSERS, parse, rest_of

LANG = "{http://www.w3.org/XML/1998/namespace}lang"
XHTML = "http://www.w3.org/1999/xhtml"
MANY = elements.MAX_ELEMENTS


def omissions(name: str) -> set[str]:
    """Return the paths of what the parser of an analyser leaves out."""
    return {path for schema in schemas_of(PARSERS[name]) for path, _ in schema.omissions()}


# Places


def place(inner: str) -> Any:
    return parse("geoloc", f"<geoloc xmlns='http://jabber.org/protocol/geoloc'>{inner}</geoloc>")


@pytest.mark.parametrize(
    ("inner", "expected", "unread"),
    [
        ("<lat>90</lat><lon>-180</lon>", (90.0, -180.0), []),
        ("<lat>90.1</lat><lon>181</lon>", (None, None), ["90.1", "181"]),
        ("<lat>nan</lat><lon>inf</lon>", (None, None), ["nan", "inf"]),
        ("<lat>4_8</lat><lon>1e1</lon>", (48.0, 10.0), []),
        (f"<lat>{'1' * 60}</lat><lon>north</lon>", (None, None), ["1" * 60, "north"]),
        ("<lat>1</lat><lat>2</lat>", (1.0, None), ["2"]),
    ],
)
def test_degrees(inner: str, expected: tuple[float | None, float | None], unread: list[str]) -> None:
    parsed = place(inner)
    assert (parsed["lat"], parsed["lon"]) == expected
    assert [text for _, _, _, text in rest_of(parsed)] == unread


def test_a_place_in_an_event_is_null_only_if_it_says_nothing() -> None:
    space = "xmlns='http://jabber.org/protocol/geoloc'"
    parsed = event(f"<location><geoloc {space}/></location><location><geoloc {space} xml:lang='en'/></location>")
    assert [one["place"] and one["place"]["language"] for one in parsed["locations"]] == [None, "en"]
    assert parsed["rest"] == []


# Files


def shared(metadata: str = "", sources: str = "", attributes: str = "") -> Any:
    """Return a file in an event, and the event."""
    parsed = event(
        f"<attachments><file-sharing xmlns='{files.SHARING}' {attributes}><file xmlns='{files.METADATA}'>{metadata}"
        f"</file><sources>{sources}</sources></file-sharing></attachments>"
    )
    return parsed["attachments"][0], parsed


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("<dimensions>3x4</dimensions>", (3, 4)),
        ("<width>3</width><height>4</height><dimensions>9x9</dimensions>", (3, 4)),
        ("<dimension>3 x 4</dimension>", (None, None)),
        ("<width>-3</width>", (None, None)),
        (f"<dimensions>{'9' * 20}x1</dimensions>", (None, None)),
        ("<dimensions>wide</dimensions><dimension>3x4</dimension>", (3, 4)),
    ],
)
def test_dimensions_of_files(metadata: str, expected: tuple[int | None, int | None]) -> None:
    file, parsed = shared(metadata)
    assert (file["width"], file["height"]) == expected
    texts = [one.text for one in fromstring(f"<f>{metadata}</f>")]
    assert all(text in [*file["dimensions"], "3", "4", *(one[3] for one in rest_of(parsed))] for text in texts)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("cid:a@bob.xmpp.org", "cid:a@bob.xmpp.org"),
        ("data:image/png;base64,AA", None),
        ("javascript:x()", None),
        (f"cid:{'x' * 9000}", None),
        (" https://x/y ", "https://x/y"),
    ],
)
def test_addresses_of_thumbnails(uri: str, expected: str | None) -> None:
    file, parsed = shared(f"<thumbnail xmlns='{files.THUMBNAILS}' uri='{uri}' width='x' height='2'/>")
    assert file["thumbnails"] == [{"uri": expected, "media_type": None, "width": None, "height": 2}]
    unread = {"width": "x"} if expected else {"uri": uri, "width": "x"}
    assert [attributes for _, _, attributes, _ in rest_of(parsed)] == [unread]


def test_keys_of_encrypted_files_are_nowhere() -> None:
    source = (
        f"<encrypted xmlns='{files.ENCRYPTED_SHARING}' cipher='aes'><key>hunter2</key><iv>hunter3</iv>"
        f"<sources xmlns='{files.SHARING}'><url-data xmlns='{files.URL_DATA}' target='https://x/1'/></sources></encrypted>"
    )
    file, parsed = shared(sources=source)
    assert file["encrypted_sources"] == [{"cipher": "aes", "hashes": [], "urls": ["https://x/1"], "jingle": []}]
    assert "hunter" not in json.dumps(parsed)
    assert parsed["rest"] == []
    path = "event/attachments/file-sharing/sources/encrypted"
    assert {f"{path}/key", f"{path}/iv"} <= omissions("calendar-events")


def test_sources_of_files() -> None:
    url = f"<url-data xmlns='{files.URL_DATA}' target='{{}}'/>"
    jingle = (
        f"<jinglepub xmlns='{files.JINGLE_PUB}' from='a@b.example/C' id='7'>"
        "<description xmlns='urn:x' media='audio'/><description xmlns='urn:y'/>"
        "<meta xml:lang='en' title='T' summary='S'/><uri>javascript:x()</uri></jinglepub>"
    )
    urls = "".join(url.format(target) for target in ("https://x/1", "javascript:x()", "https://x/1", "https://x/2"))
    file, parsed = shared(sources=f"{urls}{jingle}<torrent xmlns='urn:t'>magnet</torrent>", attributes="id='f1'")
    assert file["urls"] == ["https://x/1", "https://x/2"]
    assert file["jingle"] == [
        {
            "jid": "a@b.example/C",
            "id": "7",
            "applications": ["urn:x", "urn:y"],
            "uri": None,
            "about": [{"language": "en", "title": "T", "summary": "S"}],
        }
    ]
    assert (file["id"], file["disposition"]) == ("f1", None)
    sources = "event/attachments/file-sharing/sources"
    assert rest_of(parsed) == [
        (sources, "url-data", {"target": "javascript:x()"}, None),
        (f"{sources}/jinglepub", "description", {"media": "audio"}, None),
        (f"{sources}/jinglepub", "uri", {}, "javascript:x()"),
        (sources, "torrent", {}, "magnet"),
    ]


def test_hashes_of_files() -> None:
    space = files.HASHES
    metadata = f"<hash xmlns='{space}' algo='a'/><hash xmlns='{space}'>b</hash><hash xmlns='{space}' algo='c'>d</hash>"
    file, _ = shared(f"{metadata}<hash xmlns='{space}'/><hash-used xmlns='{space}' algo='e'/>")
    assert [(one["algo"], one["value"]) for one in file["hashes"]] == [("a", None), (None, "b"), ("c", "d")]
    assert file["hashes_used"] == ["e"]


def test_second_files_and_sources_are_returned() -> None:
    pack = (
        f"<item><file xmlns='{files.METADATA}'><name>1</name><name>2</name></file>"
        f"<file xmlns='{files.METADATA}'><name>3</name></file><suggest xml:lang='de'/></item><restricted why='art'/>"
    )
    parsed = parse("stickers", f"<pack xmlns='urn:xmpp:stickers:0'>{pack}</pack>")
    assert (parsed["stickers"][0]["name"], parsed["stickers"][0]["suggestion_texts"]) == ("1", [])
    assert [(path, name) for path, name, _, _ in rest_of(parsed)] == [
        ("pack/item/file", "name"),
        ("pack/item", "file"),
        ("pack/item", "suggest"),
        ("pack", "restricted"),
    ]


# Forms


def form(inner: str) -> str:
    return f"<x xmlns='jabber:x:data' type='submit'>{inner}</x>"


@pytest.mark.parametrize(("value", "expected"), [("1", "true"), ("TRUE", "true"), ("0", "false"), ("maybe", "false")])
def test_booleans_of_forms(value: str, expected: str) -> None:
    parsed = parse("forms", form(f"<field var='a' type='boolean'><value>{value}</value></field>"))
    assert parsed["values"] == {"a": [expected]}
    assert parsed["fields"][0]["texts"] == [{"language": None, "text": value}]


@pytest.mark.parametrize(("value", "expected"), [("1", "true"), ("0", "false"), ("maybe", "maybe")])
def test_booleans_of_tables(value: str, expected: str) -> None:
    row = f"<item><field var='a' type='boolean'><value>{value}</value></field></item>"
    assert parse("forms", form(row))["items"] == [{"a": [expected]}]


def test_fields_without_a_name_and_named_twice() -> None:
    inner = (
        "<field><value>x</value></field><field var='a'><value>1</value></field><field var='a'><value>2</value></field>"
    )
    parsed = parse("forms", form(inner + f"<field var='{'v' * 5000}'><value>long</value></field>"))
    assert parsed["values"] == {"a": ["1"], "v" * elements.MAX_NAME: ["long"]}
    assert [field["texts"][0]["text"] for field in parsed["fields"]] == ["x", "1", "2", "long"]
    assert rest_of(parsed) == [("x", "field", {"var": "v" * 5000}, None)]


def test_many_fields_and_values() -> None:
    many = 2 * MANY
    fields = "".join(f"<field var='f{number}'/>" for number in range(many))
    parsed = parse("forms", form(f"<field var='p' type='text-private'/>{fields}"))
    assert len(parsed["fields"]) == MANY
    assert [attributes["var"] for _, _, attributes, _ in rest_of(parsed)] == [
        f"f{number}" for number in range(MANY - 1, many)
    ]
    values = "".join(f"<value>{number}</value>" for number in range(many))
    parsed = parse("forms", form(f"<field var='a'>{values}</field>"))
    assert len(parsed["values"]["a"]) == len(parsed["fields"][0]["texts"]) == MANY
    assert len(parsed["rest"]) == MANY


def test_many_cells_of_a_table() -> None:
    cells = "<field/>" * 5 + "".join(f"<field var='f{number}'/>" for number in range(MANY + 2))
    parsed = parse("forms", form(f"<item>{cells}</item>"))
    assert len(parsed["items"][0]) == MANY
    assert [attributes.get("var") for _, _, attributes, _ in rest_of(parsed)] == [None] * 5 + [
        f"f{MANY}",
        f"f{MANY + 1}",
    ]


@pytest.mark.parametrize("name", ["forms", "tickets"])
@pytest.mark.parametrize("wrap", ["{}", "<item>{}</item>", "<reported>{}</reported>"])
def test_passwords_are_nowhere(name: str, wrap: str) -> None:
    secret = (
        "<field var='body' label='Code' type=' text-private '><value xml:lang='en'>hunter2</value>"
        f"<value><div xmlns='{XHTML}'>hunter3</div></value></field>"
    )
    parsed = parse(name, form(wrap.format(secret)))
    assert "hunter" not in json.dumps(parsed)
    assert ("Code" in json.dumps(parsed)) == (wrap != "<item>{}</item>") or rest_of(parsed) != []
    assert {"x/field/value", "x/item/field/value", "x/reported/field/value"} <= omissions(name)


@pytest.mark.parametrize(
    ("fields", "form_type", "listed"),
    [
        ("<field var='FORM_TYPE' type='hidden'><value>a</value></field>", "a", 0),
        ("<field var='FORM_TYPE'><value>a</value></field>", "a", 0),
        ("<field var='FORM_TYPE'><value/></field>", "", 0),
        ("<field var='FORM_TYPE' type='hidden'/>", None, 0),
        ("<field var='FORM_TYPE'><value>a</value><value>b</value></field>", "a", 1),
        ("<field var='FORM_TYPE' label='Kind'><value>a</value></field>", "a", 1),
        ("<field var='FORM_TYPE' type='fixed'><value>a</value></field>", "a", 1),
        ("<field var='FORM_TYPE'><value xml:lang='en'>a</value></field>", "a", 1),
        ("<field var='FORM_TYPE'><value>a</value></field><field var='FORM_TYPE'><value>b</value></field>", "a", 1),
    ],
)
def test_a_form_type_is_a_field_if_it_says_more(fields: str, form_type: str | None, listed: int) -> None:
    parsed = parse("forms", form(fields))
    assert (parsed["form_type"], len(parsed["fields"]), parsed["values"]) == (form_type, listed, {})
    assert parsed["rest"] == []


def test_layouts_of_any_depth() -> None:
    depth = dataform.MAX_SECTIONS
    inner = "<section label='s'>" * (depth + 1) + "<text>deep</text>" + "</section>" * (depth + 1)
    page = f"<page xmlns='{dataform.LAYOUT}' label='p'>{inner}<text/><note>x</note></page>"
    parsed = parse("forms", form(page))
    [found] = parsed["pages"]
    assert [one["type"] for one in found["content"]] == ["section", "text"]
    for _ in range(depth):
        found = found["content"][0]
        assert (found["type"], found["value"]) == ("section", "s")
    assert found["content"] == []
    path = "/".join(["x/page", *["section"] * depth])
    assert [(path, name) for path, name, _, _ in rest_of(parsed)] == [(path, "section"), ("x/page", "note")]
    assert "deep" in json.dumps(parsed["rest"])


def test_many_entries_of_a_layout() -> None:
    entries = "".join(f"<fieldref var='f{number}'/><text>{number}</text>" for number in range(MANY + 1))
    parsed = parse("forms", form(f"<page xmlns='{dataform.LAYOUT}'>{entries}</page>"))
    assert len(parsed["pages"][0]["content"]) == 2 * MANY
    assert [(name, attributes, text) for _, name, attributes, text in rest_of(parsed)] == [
        ("fieldref", {"var": f"f{MANY}"}, None),
        ("text", {}, str(MANY)),
    ]


def test_validation_of_fields() -> None:
    inner = "<list-range min='-1' max='3'/><range xmlns='urn:x' min='1'/><open/><range min='a' step='2'/><open/>"
    parsed = parse(
        "forms", form(f"<field><validate xmlns='{dataform.VALIDATE}' datatype='x:y'>{inner}</validate></field>")
    )
    assert parsed["fields"][0]["validate"] == {
        "datatype": "x:y",
        "method": "open",
        "min": "a",
        "max": None,
        "regex": None,
        "list_min": None,
        "list_max": 3,
    }
    assert [(name, attributes) for _, name, attributes, _ in rest_of(parsed)] == [
        ("list-range", {"min": "-1"}),
        ("range", {"min": "1"}),
        ("range", {"step": "2"}),
        ("open", {}),
    ]


# Tickets


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("<value>a</value><value>b</value>", ("a\nb", None)),
        ("<value/>", (None, None)),
        (f"<value><div xmlns='{XHTML}'><b>x</b></div></value>", ("x", "<div><b>x</b></div>")),
        (f"<div xmlns='{XHTML}'>x<script>y()</script></div>", ("x", "<div>x</div>")),
        (f"<value>a</value><value><div xmlns='{XHTML}'>x</div></value>", ("x", "<div>x</div>")),
    ],
)
def test_bodies_of_tickets(field: str, expected: tuple[str, str | None]) -> None:
    parsed = parse("tickets", form(f"<field var='body'>{field}</field>"))
    assert (parsed["body"], parsed["body_xhtml"]) == expected
    assert parsed["rest"] == []


def test_markup_of_tickets_that_is_not_the_body_is_returned() -> None:
    def markup(text: str) -> str:
        return f"<div xmlns='{XHTML}'><b>{text}</b></div>"

    parsed = parse("tickets", form(f"<field var='body'>{markup('1')}<value>{markup('2')}</value></field>"))
    assert (parsed["body_xhtml"], len(parsed["rest"])) == ("<div><b>1</b></div>", 2)
    plain = f"<field var='body'><value>a</value></field><field var='body'>{markup('1')}</field>"
    parsed = parse("tickets", form(plain))
    assert (parsed["body_xhtml"], parsed["rest"]) == ("<div><b>1</b></div>", [])
    assert parsed["values"] == {"body": ["a"]}
    parsed = parse(
        "tickets", form(f"{plain}<field var='body'>{markup('2')}</field><field var='x'>{markup('3')}</field>")
    )
    assert parsed["body_xhtml"] == "<div><b>1</b></div>"
    assert all(f'"text": "{number}"' in json.dumps(parsed["rest"]) for number in (2, 3))


def test_labels_of_tickets_in_one_text_or_in_many() -> None:
    one = "<field var='labels'><value>gate, shed ,gate,</value></field>"
    many = "<field var='labels'><value>gate</value><value>a, b</value></field>"
    assert parse("tickets", form(one))["tags"] == ["gate", "shed"]
    assert parse("tickets", form(many))["tags"] == ["gate", "a, b"]


@pytest.mark.parametrize("uri", ["javascript:x()", "https://x/y", "xmpp:", "xmpp:a@b", ""])
def test_comments_of_tickets_are_nodes(uri: str) -> None:
    parsed = parse("tickets", form(f"<field var='comments_uri'><value>{uri}</value></field>"))
    assert parsed["comments"] == []
    assert parsed["values"] == {"comments_uri": [uri]}


# Attachments


AT_POND = "urn:xmpp:pubsub-attachments:1/xmpp:otto@hedge.example?;node=blog;item=pond"
NOTICED = "<attachments xmlns='urn:xmpp:pubsub-attachments:1'><noticed/></attachments>"
SUMMARY = "urn:xmpp:pubsub-attachments:summary:1"


def attached(inner: str) -> Any:
    return parse("attachments", f"<attachments xmlns='urn:xmpp:pubsub-attachments:1'>{inner}</attachments>", AT_POND)


def summary(inner: str) -> Any:
    return parse("attachments-summary", f"<summary xmlns='{SUMMARY}'>{inner}</summary>", f"{SUMMARY}/x")


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
    reactions = "".join(f"<reaction>{number}</reaction>" for number in range(MANY + 2))
    long = "x" * (attachments.MAX_REACTION + 1)
    parsed = attached(f"<reactions><reaction>{long}</reaction><reaction> </reaction>{reactions}</reactions>")
    assert len(parsed["reactions"]) == MANY
    assert [text for _, _, _, text in rest_of(parsed)] == [long, None, str(MANY), str(MANY + 1)]


def test_counts_of_reactions() -> None:
    long = "x" * (attachments.MAX_REACTION + 1)
    parsed = summary(
        f"<reactions><reaction count='2'>a</reaction><reaction count='9'>{long}</reaction><reaction count='8'/>"
        "<reaction count='3'>a</reaction><reaction count='many'>b</reaction></reactions>"
    )
    assert parsed["reactions"] == [
        {"reaction": "a", "count": 3},
        {"reaction": "a", "count": 2},
        {"reaction": "b", "count": 1},
    ]
    assert [(attributes, text) for _, _, attributes, text in rest_of(parsed)] == [
        ({"count": "9"}, long),
        ({"count": "8"}, None),
        ({"count": "many"}, None),
    ]


@pytest.mark.parametrize("count", ["-1", "x", "1.5", "9" * 30, ""])
def test_unreadable_counts_become_one(count: str) -> None:
    parsed = summary(f"<noticed count='{count}'/>")
    assert parsed["noticed"] == 1
    assert rest_of(parsed) == ([("summary", "noticed", {"count": count}, None)] if count else [])


@pytest.mark.parametrize("space", ["urn:xmpp:calendar-events:0", "urn:xmpp:events:0"])
def test_an_attendance_without_a_maximum(space: str) -> None:
    """XEP-0471, 5.5.1."""
    parsed = summary(f"<attendees xmlns='{space}' confirmed='5'/><attendees xmlns='urn:xmpp:events:0' max='7'/>")
    assert parsed["attendees"] == {"confirmed": 5, "max": 5}
    assert rest_of(parsed) == [("summary", "attendees", {"max": "7"}, None)]


@pytest.mark.parametrize("space", ["urn:xmpp:calendar-events:0", "urn:xmpp:events:0"])
def test_answers_to_invitations(space: str) -> None:
    def answer(value: str, namespace: str = space) -> str:
        field = f"<field var='attending' label='Coming?'><value>{value}</value></field>"
        return f"<rsvp xmlns='{namespace}' timestamp='2026-05-01'>{form(field)}</rsvp>"

    empty = f"<rsvp xmlns='{space}' timestamp='2026-04-01'/>"
    parsed = attached(empty + answer("yes") + answer("no", "urn:xmpp:calendar-events:0"))
    answered = parsed["rsvp"]
    assert (answered["attending"], answered["timestamp"]) == ("yes", "2026-05-01T00:00:00Z")
    assert answered["form"]["fields"][0]["label"] == "Coming?"
    assert [attributes for _, _, attributes, _ in rest_of(parsed)] == [
        {"timestamp": "2026-04-01"},
        {"timestamp": "2026-05-01"},
    ]
    assert '"no"' in json.dumps(parsed["rest"])
    assert attached(empty)["rsvp"] is None


def test_encrypted_attachments_are_described() -> None:
    encrypted = "<encrypted xmlns='urn:xmpp:openpgp:pubsub:0' key='k{}'>hunter2</encrypted>"
    parsed = attached(encrypted.format(1) + encrypted.format(2) + "<noticed/>")
    assert (parsed["encrypted"], parsed["noticed"]) == (True, True)
    assert [(one["scheme"], one["key"], one["size"]) for one in parsed["encryptions"]] == [
        ("oxps", "k1", 7),
        ("oxps", "k2", 7),
    ]
    assert "hunter2" not in json.dumps(parsed)
    assert parsed["rest"] == []
    assert "attachments/encrypted" in omissions("attachments")


def test_other_attachments_are_named_and_returned() -> None:
    many = "".join(f"<x xmlns='urn:x:{number}'/>" for number in range(MANY))
    parsed = attached(f"<noticed xmlns='urn:other' by='me'>now</noticed>{many}")
    assert parsed["noticed"] is False
    assert parsed["others"][0] == {"namespace": "urn:other", "name": "noticed"}
    assert len(parsed["rest"]) == MANY + 1
    assert rest_of(parsed)[0] == ("attachments", "noticed", {"by": "me"}, "now")


# Events


def event(inner: str) -> Any:
    return parse("calendar-events", f"<event xmlns='urn:xmpp:calendar-events:0'>{inner}</event>")


def test_an_event_with_broken_links() -> None:
    inner = (
        "<blog jid='a b' node='n'/><schedule jid='a@b.example'/><comments/><invitees node='n'/>"
        "<location><online><url-data xmlns='http://jabber.org/protocol/url-data' target='javascript:x()'/>"
        "<software url='data:x' need_install='1'/></online></location><start>soon</start>"
    )
    parsed = event(inner)
    assert [parsed[key] for key in ("blog", "schedule", "comments", "invitees", "start")] == [
        None,
        None,
        [],
        None,
        None,
    ]
    (online,) = parsed["locations"][0]["online"]
    assert (online["url"], online["software"]["url"], online["software"]["need_install"]) == (None, None, True)
    assert [(name, attributes, text) for _, name, attributes, text in rest_of(parsed)] == [
        ("blog", {"jid": "a b", "node": "n"}, None),
        ("schedule", {"jid": "a@b.example"}, None),
        ("comments", {}, None),
        ("invitees", {"node": "n"}, None),
        ("url-data", {"target": "javascript:x()"}, None),
        ("software", {"url": "data:x"}, None),
        ("start", {}, "soon"),
    ]


def test_the_first_valid_link_counts() -> None:
    link = "<blog jid='{}' node='n{}' item='i{}' rel='x'/>"
    inner = "".join(link.format(jid, number, number) for number, jid in enumerate(["a b", "a@b.example/C", "c@d"]))
    parsed = event(inner + "<comments jid='a@b' node='1' item='x'/><comments jid='a@b' node='2'/>")
    assert (parsed["blog"]["service"], parsed["blog"]["node"], parsed["blog"]["item"]) == ("a@b.example/C", "n1", "i1")
    assert [one["node"] for one in parsed["comments"]] == ["1", "2"]
    assert [attributes for _, _, attributes, _ in rest_of(parsed)] == [
        {"jid": "a b", "node": "n0", "item": "i0", "rel": "x"},
        {"rel": "x"},
        {"jid": "c@d", "node": "n2", "item": "i2", "rel": "x"},
        {"item": "x"},
    ]


def test_descriptions_of_events_are_safe() -> None:
    attack = f"<div xmlns='{XHTML}'><a href='javascript:x()' onclick='y()'>z</a></div>"
    parsed = event(f"<description type='xhtml'>{attack}</description>")
    safe = '<div><a rel="nofollow noopener noreferrer">z</a></div>'
    assert parsed["description_xhtml"] == safe
    assert parsed["descriptions"] == [{"language": None, "type": "xhtml", "text": "z", "xhtml": safe}]


@pytest.mark.parametrize(
    ("description", "text", "xhtml", "unread"),
    [
        ("<description type='html'>&lt;b>x&lt;/b></description>", "x", "<div><b>x</b></div>", []),
        ("<description type='image/png'>iVBORw0KGgo=</description>", "iVBORw0KGgo=", None, []),
        ("<description type='text'>a <tag a='1'>b</tag></description>", "a b", None, [{"a": "1"}]),
        ("<description xml:lang='en'> </description>", None, None, [{LANG: "en"}]),
    ],
)
def test_descriptions_of_any_type(description: str, text: str | None, xhtml: str | None, unread: list[Any]) -> None:
    parsed = event(description)
    [found] = parsed["descriptions"]
    assert (found["text"], found["xhtml"]) == (text, xhtml)
    assert [attributes for _, _, attributes, _ in rest_of(parsed)] == unread


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ("<start>2026-06-06</start><end>2026-06-07</end>", True),
        ("<start>2026-06-06</start>", True),
        ("<start>2026-06-06</start><end>later</end>", True),
        ("<start>2026-06-06</start><end>2026-06-06T12:00:00Z</end>", False),
        ("<start>2026-06-06T00:00:00Z</start><end>2026-06-07T00:00:00Z</end>", False),
        ("<start>2026-13-13</start>", False),
        ("", False),
    ],
)
def test_events_without_a_time_of_day(times: str, expected: bool) -> None:
    assert event(times)["all_day"] is expected


def test_passwords_of_rooms_are_nowhere() -> None:
    room = "<x xmlns='jabber:x:conference' jid='a@b/c' password='hunter2' thread='t'/>"
    parsed = event(f"<location><online>{room}{room}</online></location>")
    (online,) = parsed["locations"][0]["online"]
    assert (online["room"], online["room_has_password"]) == ("a@b", True)
    assert "hunter2" not in json.dumps(parsed)
    assert [attributes for _, _, attributes, _ in rest_of(parsed)] == [{"jid": "a@b/c", "thread": "t"}] * 2
    assert "event/location/online/x@password" in omissions("calendar-events")


def test_forms_of_events() -> None:
    rsvp = f"<rsvp xml:lang='en'>{form('').replace('<x', '<x xml:lang=' + repr('fr'))}</rsvp>"
    extra = (
        "<field var='FORM_TYPE'><value>f</value></field>"
        "<field var='status' label='Is it on?'><value>tentative</value></field>"
    )
    parsed = event(f"<rsvp xml:lang='de'/>{rsvp}<extra>{form(extra)}{form('')}</extra>")
    assert [one["language"] for one in parsed["rsvp"]] == ["en"]
    assert (parsed["status"], parsed["extra"]) == ("tentative", {"status": ["tentative"]})
    assert (parsed["extra_form"]["form_type"], parsed["extra_form"]["fields"][0]["label"]) == ("f", "Is it on?")
    assert [(path, name, attributes.get(LANG)) for path, name, attributes, _ in rest_of(parsed)] == [
        ("event", "rsvp", "de"),
        ("event/rsvp", "x", "fr"),
        ("event/extra", "x", None),
    ]


def test_an_invitee_after_another_payload() -> None:
    payload = "<note xmlns='urn:x'/><invitee xmlns='urn:xmpp:events:0' jid='a@b/c'/>"
    parsed = parse("events", f"{payload}<event xmlns='urn:xmpp:events:0'/>")
    assert (parsed["jid"], parsed["name"]) == ("a@b", None)
    assert [(name, attributes) for _, name, attributes, _ in rest_of(parsed)] == [
        ("note", {}),
        ("invitee", {"jid": "a@b/c"}),
        ("event", {}),
    ]


# vCards


def card(inner: str) -> Any:
    return parse("vcard4", f"<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'>{inner}</vcard>")


def properties(parsed: Any, name: str) -> list[Any]:
    return [one for one in parsed["properties"] if one["name"] == name]


def test_vcard_values_of_any_type_and_in_groups() -> None:
    parsed = card(
        "<group name='work'><email><text>a@b</text></email></group><email><parameters><pref>2</pref></parameters>"
        "<text>c@d</text></email><bday><text>in spring</text></bday><gender><identity>it depends</identity></gender>"
        "<photo><uri>data:image/png;base64,AAAA</uri></photo><photo><uri>relative.png</uri></photo>"
    )
    assert [(email["value"], email["pref"]) for email in parsed["emails"]] == [("c@d", 2), ("a@b", None)]
    assert (parsed["birthday"], parsed["gender"], parsed["gender_text"]) == ("in spring", None, "it depends")
    assert parsed["photos"] == []
    assert parsed["embedded"] == [{"property": "photo", "media_type": "image/png", "size": 3}]
    assert [one["group"] for one in properties(parsed, "email")] == [None, "work"]
    assert properties(parsed, "photo")[1]["values"] == [{"type": "uri", "value": "relative.png", "data": None}]
    assert parsed["rest"] == []


def test_parameters_of_vcards() -> None:
    parameters = (
        "<parameters><type><text>Work</text><text>voice</text></type><type><text>WORK</text></type><pref>1</pref>"
        f"<type>{'t' * 101}<text xmlns='urn:x'>foreign</text></type><x-p>odd<text>even</text></x-p></parameters>"
        "<parameters><type><text>text</text></type></parameters>"
    )
    parsed = card(f"<tel>{parameters}<uri>tel:1</uri></tel>")
    assert parsed["phones"] == [{"value": "tel:1", "types": ["work", "voice", "text"], "pref": 1}]
    assert parsed["properties"][0]["parameters"] == {
        "type": ["Work", "voice", "WORK", "t" * 101, "text"],
        "pref": ["1"],
        "x-p": ["odd", "even"],
    }
    assert rest_of(parsed) == [("vcard/tel/parameters/type", "text", {}, "foreign")]


def test_values_without_the_element_of_their_type() -> None:
    parsed = card("<fn>Mira</fn><gender><sex><text>F</text></sex></gender><adr>Lane<street>4</street> Vienna</adr>")
    assert (parsed["name"], parsed["gender"], parsed["addresses"][0]["street"]) == ("Mira", "F", "4")
    assert properties(parsed, "adr")[0]["values"] == [
        {"type": None, "value": "Lane Vienna", "data": None},
        {"type": "street", "value": "4", "data": None},
    ]
    assert parsed["rest"] == []


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("data:image/png;base64,aGVs\nbG8=", ("image/png", 5)),
        ("DATA:text/plain;charset=utf-8,a%20b", ("text/plain", 3)),
        ("data:,", (None, 0)),
        ("data:;base64,####", (None, None)),
        ("data:audio/ogg;codecs=opus;base64,T2dnUw==", ("audio/ogg", 4)),
    ],
)
@pytest.mark.parametrize("name", ["photo", "key", "logo", "sound", "x-scent"])
def test_data_inside_vcards_is_nowhere_but_described(name: str, uri: str, expected: tuple[Any, Any]) -> None:
    parsed = card(f"<group><{name}><uri>{uri}</uri><text>beside</text></{name}></group>")
    media_type, size = expected
    assert parsed["embedded"] == [{"property": name, "media_type": media_type, "size": size}]
    [found] = parsed["properties"]
    assert found["values"] == [
        {"type": "uri", "value": None, "data": {"media_type": media_type, "size": size}},
        {"type": "text", "value": "beside", "data": None},
    ]
    assert uri.partition(",")[2][:4] not in json.dumps(parsed) or uri == "data:,"
    assert parsed["rest"] == []
    assert {"vcard/*/*", "vcard/group/*/*"} <= omissions("vcard4")


@pytest.mark.parametrize(
    "text", ["Data: a, b", "data:", "data:image/png", "data: ,b", "data:a b,c", "database, old", f"data:{'x' * 300},"]
)
def test_text_that_is_no_data_is_kept(text: str) -> None:
    assert card(f"<note><text>{text}</text></note>")["notes"] == [text]


def test_extensions_of_vcards() -> None:
    parsed = card(
        "<x-a b='1'><x-type>v<c>w</c></x-type></x-a><p xmlns='urn:x'><text>foreign</text></p>"
        "<note><text xmlns='urn:x'>foreign value</text></note>stray"
    )
    assert [one["name"] for one in parsed["properties"]] == ["x-a", "note"]
    assert parsed["notes"] == []
    assert properties(parsed, "x-a")[0]["values"] == [{"type": "x-type", "value": "vw", "data": None}]
    assert [(path, name, attributes, text) for path, name, attributes, text in rest_of(parsed)] == [
        ("", "vcard", {}, "stray"),
        ("vcard", "x-a", {"b": "1"}, None),
        ("vcard/x-a/x-type", "c", {}, "w"),
        ("vcard", "p", {}, None),
        ("vcard/note", "text", {}, "foreign value"),
    ]
    assert parsed["rest"][3]["children"][0]["text"] == "foreign"


def test_names_of_groups() -> None:
    long = "g" * (vcard4.MAX_REPEATED + 1)
    parsed = card(
        f"<group name='a'/><group name='{long}'><note>x</note></group><group><group><note>y</note></group></group>"
    )
    assert parsed["groups"] == ["a"]
    assert [(one["name"], one["group"]) for one in parsed["properties"]] == [("note", None), ("group", None)]
    assert rest_of(parsed) == [("vcard", "group", {"name": long}, None)]
    assert '"y"' in json.dumps(parsed)
    named = parse("vcard4", f"<vcard xmlns='{vcard4.VCARD}' name='mine'><note>x</note></vcard>")
    assert (named["groups"], named["properties"][0]["group"]) == ([], None)
    assert rest_of(named) == [("", "vcard", {"name": "mine"}, None)]


def test_many_properties_and_values() -> None:
    many = "".join(f"<note><text>n{number}</text></note>" for number in range(MANY + 1))
    parsed = card(f"{many}<group>{many}</group>")
    assert len(parsed["properties"]) == 2 * MANY
    assert [path for path, _, _, _ in rest_of(parsed)] == ["vcard", "vcard/group"]
    data = "<uri>data:,</uri>"
    values = data + "".join(f"<text>v{number}</text>" for number in range(MANY))
    parsed = card(f"<email>{values}</email>")
    assert len(parsed["properties"][0]["values"]) == MANY
    assert len(parsed["emails"]) == vcard4.MAX_VALUES
    assert [text for _, _, _, text in rest_of(parsed)] == [f"v{MANY - 1}"]


def test_cards_with_all_properties_have_a_key_for_each() -> None:
    names = (
        *("source", "kind", "fn", "nickname", "photo", "bday", "anniversary", "tel", "email", "impp", "lang", "tz"),
        *("geo", "title", "role", "logo", "org", "member", "related", "categories", "note", "prodid", "rev", "sound"),
        *("uid", "url", "key", "fburl", "caladruri", "caluri"),  # RFC 6350
        *("birthplace", "deathplace", "deathdate", "expertise", "hobby", "interest", "org-directory", "contact-uri"),
        *("created", "gramgender", "language", "pronouns", "socialprofile"),  # RFC 9554
    )
    for name in names:
        value = {"rev": "20260101T000000Z", "created": "20260101T000000Z", "geo": "geo:1,2"}.get(name, "https://x/y")
        parsed = card(f"<{name}><uri>{value}</uri></{name}>")
        assert [one["name"] for one in parsed.pop("properties")] == [name]
        assert any(given for key, given in parsed.items() if key != "names"), name


# Size


CARD = "<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'>{}</vcard>"
FORM = "<x xmlns='jabber:x:data'>{}</x>"
EVENT = "<event xmlns='urn:xmpp:calendar-events:0'>{}</event>"
TYPES = "<parameters><type>{}</type></parameters>".format(f"<text>{'t' * 99}</text>" * 20)
MISNESTED = f"<p><b title='{'x' * 500}'>{'<p>x</p>' * 100}</b></p>"


@pytest.mark.parametrize(
    ("name", "around", "repeated"),
    [
        ("vcard4", CARD, "<adr/>"),
        ("vcard4", CARD, "<adr>x</adr>"),
        ("vcard4", CARD, f"<group name='{'g' * 100}'>{'<a>x</a>' * 50}</group>"),
        ("vcard4", CARD, f"<tel>{TYPES}{''.join(f'<text>{number}</text>' for number in range(100))}</tel>"),
        ("forms", FORM, "<field/>"),
        ("forms", FORM, "<item><field var='a'/><field var='b'/></item>"),
        ("forms", FORM, "<field><media xmlns='urn:xmpp:media-element'><uri/></media></field>"),
        ("forms", FORM, f"<page xmlns='{dataform.LAYOUT}'>{'<text/>' * 9}</page>"),
        ("stickers", "<pack xmlns='urn:xmpp:stickers:0'>{}</pack>", f"<item>{'<suggest>x</suggest>' * 20}</item>"),
        ("calendar-events", EVENT, "<location><online/></location>"),
        ("calendar-events", EVENT, "<rsvp><x xmlns='jabber:x:data'/></rsvp>"),
        ("calendar-events", EVENT, f"<description type='xhtml'><div xmlns='{XHTML}'>{MISNESTED}</div></description>"),
    ],
)
def test_json_grows_in_proportion(name: str, around: str, repeated: str) -> None:
    payload = around.format(repeated * 300)
    assert len(json.dumps(parse(name, payload))) < 30 * len(payload)
