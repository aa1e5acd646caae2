"""Test unusual and broken payloads: private bookmarks, moves, popular reactions, servers, channels, spaces."""

from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from pubsubcache.analysers import matching, registry
from pubsubcache.analysers.builtin import builtin_analysers
from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import ParseContext
from pubsubcache.parsers.elements import MAX_ELEMENTS
from pubsubcache.parsers.schema import schemas_of
from pubsubcache.types import NodeAddress
from tests.unit.parsers.entries import PUBSUB, check_texts

PARSERS: dict[str, Any] = {analyser.name: analyser.parser for analyser in builtin_analysers()}


def parse(name: str, payload: str, node: str = "n", item_id: str = "i1") -> Any:
    item = fromstring(f"<item xmlns='{PUBSUB}' id='{item_id}'>{payload}</item>")
    parsed = PARSERS[name](item, ParseContext("mira@garden.example", node))
    check_texts(parsed)
    return parsed


def rest(parsed: Any) -> list[tuple[str, str, str | None, dict[str, str]]]:
    """Return the path, name, text and attributes of what was not read."""
    return [(one["path"], one["name"], one["text"], one["attributes"]) for one in parsed["rest"]]


# Private bookmarks


def bookmarks(inner: str) -> Any:
    return parse("private-bookmarks", f"<storage xmlns='storage:bookmarks'>{inner}</storage>")


def test_the_password_of_a_private_bookmark_is_left_out() -> None:
    parsed = bookmarks("<conference jid='r@rooms.example'><password kind='x'>hunter2<b>3</b></password></conference>")
    assert "hunter2" not in str(parsed)
    assert parsed["rooms"][0]["has_password"] is True
    assert parsed["rest"] == []
    (schema,) = schemas_of(PARSERS["private-bookmarks"])
    assert [path for path, _ in schema.omissions()] == ["storage/conference/password"]


def test_private_bookmarks_that_cannot_be_read() -> None:
    parsed = bookmarks(
        "<conference jid='a b' autojoin='soon'><nick>1</nick><nick>2</nick><password/></conference>"
        "<url url='data:x'>y</url><room jid='r@rooms.example'/>"
    )
    assert parsed["rooms"] == [{"jid": None, "name": None, "autojoin": False, "nick": "1", "has_password": False}]
    assert parsed["urls"] == [{"name": None, "url": None}]
    assert rest(parsed) == [
        ("storage", "conference", None, {"jid": "a b", "autojoin": "soon"}),
        ("storage/conference", "nick", "2", {}),
        ("storage", "url", "y", {"url": "data:x"}),
        ("storage", "room", None, {"jid": "r@rooms.example"}),
    ]


def test_many_private_bookmarks() -> None:
    parsed = bookmarks("<conference jid='r@rooms.example'/><url url='https://x.example/'/>" * (MAX_ELEMENTS + 1))
    assert (len(parsed["rooms"]), len(parsed["urls"]), len(parsed["rest"])) == (MAX_ELEMENTS, MAX_ELEMENTS, 2)


# Moved accounts


@pytest.mark.parametrize(
    ("inner", "expected", "left"),
    [
        ("<new-jid> Mira@moss.example\n</new-jid>", "mira@moss.example", []),
        ("<new-jid/>", None, []),
        ("<new-jid>no jid</new-jid>", None, [("moved", "new-jid", "no jid", {})]),
        (
            "<new-jid>a@b.example</new-jid><new-jid>c@d.example</new-jid>",
            "a@b.example",
            [("moved", "new-jid", "c@d.example", {})],
        ),
        ("<old-jid>a@b.example</old-jid>", None, [("moved", "old-jid", "a@b.example", {})]),
    ],
)
def test_moves(inner: str, expected: str | None, left: list[Any]) -> None:
    parsed = parse("moved", f"<moved xmlns='urn:xmpp:moved:1'>{inner}</moved>")
    assert (parsed["jid"], rest(parsed)) == (expected, left)


# Popular reactions


def test_reactions_without_a_readable_stamp_or_text() -> None:
    space = "urn:xmpp:reactions:popular:0"
    inner = "<reaction stamp='today'>x</reaction><reaction stamp='2026-01-31'/><reaction/><other/>"
    parsed = parse("popular-reactions", f"<popular-reactions xmlns='{space}'>{inner}</popular-reactions>")
    assert [(one["reaction"], one["date"]) for one in parsed["reactions"]] == [
        ("x", None),
        (None, "2026-01-31T00:00:00Z"),
        (None, None),
    ]
    assert rest(parsed) == [
        ("popular-reactions", "reaction", None, {"stamp": "today"}),
        ("popular-reactions", "other", None, {}),
    ]


# Server information


def server(inner: str) -> Any:
    return parse("serverinfo", f"<serverinfo xmlns='urn:xmpp:serverinfo:0'>{inner}</serverinfo>")


def test_domains_are_normalised() -> None:
    parsed = server("<domain name='Garden.Example.'/><domain name='two words'/><domain/>")
    assert [domain["name"] for domain in parsed["domains"]] == ["garden.example", None, None]
    assert rest(parsed) == [("serverinfo", "domain", None, {"name": "two words"})]


def test_software_of_a_domain_is_not_that_of_the_server() -> None:
    parsed = server("<domain><query xmlns='jabber:iq:version'><name>A</name><os>B</os></query></domain>")
    assert parsed["domains"][0]["software"] == {"name": "A", "version": None, "os": "B"}
    assert parsed["software"] is None


def test_what_is_published_twice_about_a_server_is_read_once() -> None:
    users = "<users xmlns='xmpp:prosody.im/protocol/serverinfo'><active>{}</active></users>"
    parsed = server(
        "<domain>"
        "<federation><remote-domain name='a.example'/></federation>"
        "<federation><remote-domain name='b.example'/></federation>"
        f"{users.format('many')}{users.format(2)}"
        "</domain><query xmlns='jabber:iq:version'><name>1</name></query><query xmlns='jabber:iq:version'/>"
    )
    (domain,) = parsed["domains"]
    assert domain["federation"] == [{"name": "a.example", "connections": []}]
    assert domain["active_users"] is None
    assert parsed["software"]["name"] == "1"
    assert [(path, name) for path, name, *_ in rest(parsed)] == [
        ("serverinfo/domain", "federation"),
        ("serverinfo/domain/users", "active"),
        ("serverinfo/domain", "users"),
        ("serverinfo", "query"),
    ]


def test_many_connections() -> None:
    remotes = "<remote-domain><connection type='bidi'/></remote-domain>" * (MAX_ELEMENTS + 1)
    parsed = server(f"<domain><federation>{remotes}</federation></domain>")
    assert len(parsed["domains"][0]["federation"]) == MAX_ELEMENTS
    assert len(parsed["rest"]) == 1


# Channels


@pytest.mark.parametrize("space", ["urn:xmpp:mix:core:1", "urn:xmpp:mix:core:0", "urn:xmpp:mix:anon:0"])
def test_participants_in_all_namespaces(space: str) -> None:
    inner = "<jid>Otto@hedge.example</jid><nick>otto</nick><nick>hog</nick><jid xmlns='urn:x'>x</jid>"
    parsed = parse("mix-participants", f"<participant xmlns='{space}'>{inner}</participant>")
    assert (parsed["nick"], parsed["jid"]) == ("otto", "otto@hedge.example")
    assert rest(parsed) == [("participant", "nick", "hog", {}), ("participant", "jid", "x", {})]


def test_a_participant_without_a_valid_jid() -> None:
    parsed = parse("mix-jidmap", "<participant xmlns='urn:xmpp:mix:anon:0'><jid>@</jid></participant>")
    assert (parsed["nick"], parsed["jid"]) == (None, None)
    assert rest(parsed) == [("participant", "jid", "@", {})]


# Spaces and banners


METADATA = "<metadata xmlns='urn:xmpp:avatar:metadata'>{}</metadata>"


def test_a_room_of_a_space() -> None:
    parsed = parse("spaces", "<conference xmlns='urn:xmpp:bookmarks:1' name='Heap'/>", "plots", "heap@rooms.example")
    assert (parsed["jid"], parsed["name"]) == ("heap@rooms.example", "Heap")


def test_a_node_of_a_space_has_no_subscriber() -> None:
    payload = "<subscription xmlns='urn:xmpp:pubsub:subscription:0' server='news.example' node='Heap'/>"
    parsed = parse("spaces", payload)
    assert (parsed["service"], parsed["node"], parsed["subscriber"]) == ("news.example", "Heap", None)
    assert parse("movim-spaces", payload)["subscriber"] == "mira@garden.example"


@pytest.mark.parametrize("name", ["spaces", "links"])
def test_links(name: str) -> None:
    url, desc = "<url>https://garden.example/plots</url>", "<desc>Plots</desc>"
    parsed = parse(name, f"<x xmlns='jabber:x:oob'>{url}{desc}<url>javascript:x()</url><when/></x>")
    assert (parsed["url"], parsed["desc"]) == ("https://garden.example/plots", "Plots")
    assert rest(parsed) == [("x", "url", "javascript:x()", {}), ("x", "when", None, {})]
    parsed = parse(name, "<x xmlns='jabber:x:oob'><url>javascript:x()</url></x>")
    assert (parsed["url"], rest(parsed)) == (None, [("x", "url", "javascript:x()", {})])


@pytest.mark.parametrize("name", ["spaces", "movim-banner"])
def test_pictures_whose_item_id_is_no_hash(name: str) -> None:
    pictures = "".join(
        METADATA.format(f"<info id='{sha1 * 20}' type='image/png' url='https://garden.example/{sha1}'/>")
        for sha1 in ("ab", "cd")
    )
    parsed = parse(name, pictures, "n", "urn:xmpp:spaces:banner:metadata:0")
    assert [picture["url"][-2:] for picture in parsed["pictures"]] == ["ab", "cd"]
    assert (parsed["enabled"], parsed["sha1"], parsed["rest"]) == (True, "ab" * 20, [])
    parsed = parse(name, METADATA.format(""), "n", "urn:xmpp:spaces:banner:metadata:0")
    assert (parsed["enabled"], parsed["sha1"], parsed["pictures"]) == (False, None, [])


@pytest.mark.parametrize("payload", ["", "<x xmlns='jabber:x:data'/>", "<poll xmlns='urn:x'/>"])
def test_other_content_of_a_space_is_refused(payload: str) -> None:
    with pytest.raises(ParseError):
        parse("spaces", payload)


# Shared files


def test_a_file_in_a_folder() -> None:
    inner = "<file xmlns='urn:xmpp:file:metadata:0'><name>plan.pdf</name><size>big</size></file><sources/><folder/>"
    parsed = parse("file-sharing", f"<file-sharing xmlns='urn:xmpp:sfs:0'>{inner}</file-sharing>")
    assert (parsed["name"], parsed["size"], parsed["urls"]) == ("plan.pdf", None, [])
    assert rest(parsed) == [("file-sharing/file", "size", "big", {}), ("file-sharing", "folder", None, {})]


# Which analyser


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("storage:bookmarks", ("private-bookmarks", False)),
        ("urn:xmpp:moved:1", ("moved", False)),
        ("urn:xmpp:movim-banner:0", ("movim-banner", True)),
        ("urn:xmpp:pubsub:movim-public-subscription", ("movim-subscriptions", False)),
        ("{https://movim.eu}spaces_subscriptions_node", ("movim-spaces", False)),
        ("urn:xmpp:reactions:popular:0", ("popular-reactions", False)),
        ("urn:ietf:params:xml:ns:vcard-4.0", ("vcard4-namespace", True)),
        ("urn:xmpp:contacts", ("contacts", False)),
        ("urn:xmpp:contacts-groups", ("contacts", False)),
        ("urn:xmpp:pubsub-file-sharing:0", ("file-sharing", True)),
        ("urn:xmpp:pubsub-file-sharing:0:q7w8e9/Harvest", ("file-sharing", True)),
        ("urn:xmpp:pubsub-file-sharing:0:/uploaded", ("file-sharing", False)),
        ("urn:xmpp:mix:nodes:participants", ("mix-participants", False)),
        ("urn:xmpp:mix:nodes:jidmap", ("mix-jidmap", False)),
        ("urn:xmpp:mix:nodes:info", ("mix-info", True)),
        ("urn:xmpp:mix:nodes:config", ("mix-config", False)),
    ],
)
async def test_nodes_are_recognised_by_name_without_a_request(node: str, expected: tuple[str, bool]) -> None:
    assert await analysed(node, LookupError()) == expected


@pytest.mark.parametrize(
    ("node", "payload", "expected"),
    [
        ("people", "<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'/>", ("vcards", True)),
        ("plots", "<conference xmlns='urn:xmpp:bookmarks:1'/>", ("spaces", True)),
        ("plots", "<x xmlns='jabber:x:oob'/>", ("links", True)),
        ("info", "<serverinfo xmlns='urn:xmpp:serverinfo:0'/>", ("serverinfo", True)),
        ("serverinfo", None, ("serverinfo", True)),
        ("serverinfo-news", "<entry xmlns='http://www.w3.org/2005/Atom'/>", ("microblog", True)),
    ],
)
async def test_nodes_are_recognised_by_payload(node: str, payload: str | None, expected: tuple[str, bool]) -> None:
    item = None if payload is None else fromstring(f"<item xmlns='{PUBSUB}'>{payload}</item>")
    assert await analysed(node, item) == expected


async def analysed(node: str, item: Element | Exception | None) -> tuple[str, bool]:
    """Return the analyser of a node and whether it is synchronised.

    Args:
        node: Name of the node.
        item: The sample item, or an error that is raised if one is asked for.
    """

    async def sample() -> Element | None:
        if isinstance(item, Exception):
            raise item
        return item

    with registry.temporarily(*builtin_analysers(), replace=True):
        analysis = await matching.analyse(NodeAddress("pubsub.example", node), sample)
    assert analysis is not None
    return analysis.name, analysis.to_sync
