import xml.etree.ElementTree as ET
from typing import Any

import pytest

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import ParseContext
from pubsubcache.parsers.microblog import is_comments_node, parse, parse_entry, parse_feed
from tests.unit.parsers.entries import ATOM, PEP, PUBSUB, SERVICE, XHTML, check, item, parsed

MIRA = "<author><name>Mira Moss</name><uri>xmpp:mira@garden.example</uri><email>mira@post.example</email></author>"
COMMENTS = ParseContext("pubsub.garden.example", "urn:xmpp:microblog:0:comments/77")
PEP_COMMENTS = ParseContext("mira@garden.example", "urn:xmpp:microblog:0:comments/77")


def by(publisher: str) -> dict[str, Any]:
    return {"attributes": f"id='i1' publisher='{publisher}'"}


def link(rel: str, url: str, **others: Any) -> dict[str, Any]:
    """Return what `links` has of a link."""
    names = ("media_type", "title", "language", "length", "description", "logo", "ref", "count", "updated")
    return {"rel": rel, "url": url, **dict.fromkeys(names), **others}


# The post as a whole


def test_a_post_with_only_a_title() -> None:
    """The plain post of XEP-0277, 2.3."""
    result = parsed(
        "<title type='text'>Frost on the caf\u00e9 roses</title><id>tag:garden.example,2026:p1</id>"
        "<published>2026-01-31T06:00:00Z</published><updated>2026-01-31T06:30:00Z</updated>"
    )
    assert result == {
        "id": "i1",
        "atom_id": "tag:garden.example,2026:p1",
        "service": "mira@garden.example",
        "node": "urn:xmpp:microblog:0",
        "uri": "xmpp:mira@garden.example?;node=urn%3Axmpp%3Amicroblog%3A0;item=i1",
        "language": None,
        "title": "Frost on the caf\u00e9 roses",
        "title_xhtml": None,
        "rights": None,
        "rights_xhtml": None,
        "translations": [],
        "summary": None,
        "summary_xhtml": None,
        "content": "Frost on the caf\u00e9 roses",
        "content_xhtml": None,
        "published": "2026-01-31T06:00:00Z",
        "updated": "2026-01-31T06:30:00Z",
        "author": "mira",
        "author_jid": "mira@garden.example",
        "author_jid_verified": False,
        "author_email": None,
        "authors": [],
        "contributors": [],
        "tags": [],
        "categories": [],
        "comments": [],
        "replies_total": None,
        "reply": None,
        "in_reply_to": [],
        "geoloc": None,
        "generator": None,
        "icon": None,
        "logo": None,
        "source": None,
        "links": [],
        "media": [],
        "extra": {"repeated": None, "attachments": [], "pictures": [], "alt_links": []},
        "rest": [],
        "rest_truncated": False,
    }


def test_an_empty_entry_is_an_entry() -> None:
    result = parsed("", context=SERVICE, attributes="")
    assert result["id"] is None
    assert result["uri"] == "xmpp:pubsub.garden.example?;node=allotments"
    assert [key for key, value in result.items() if value] == ["service", "node", "uri", "extra"]


def test_a_notification_parses_as_the_answer_to_a_request() -> None:
    inner = f"{MIRA}<title>Frost</title><updated>2026-01-31T06:00:00Z</updated>"
    assert parsed(inner, namespace=f"{PUBSUB}#event") == parsed(inner, namespace=PUBSUB)


def test_the_item_is_not_modified() -> None:
    element = item(f"{MIRA}<title type='html'>&lt;b>Frost</title><link rel='enclosure' href='https://x/y'/>")
    before = ET.tostring(element)
    parse_entry(element, PEP)
    assert ET.tostring(element) == before


@pytest.mark.parametrize("name", ["a b/c?d;e=f&amp;g", "%_'\u00fc\U0001f331", " padded ", "x" * 1024])
def test_item_ids_of_any_kind(name: str) -> None:
    result = parsed("", attributes=f'id="{name}"')
    assert result["id"] == name.replace("&amp;", "&")
    assert result["uri"].isascii()
    assert not set(" \"'<>") & set(result["uri"])


# Items without an entry


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("", "The item has no payload."),
        ("<geoloc xmlns='http://jabber.org/protocol/geoloc'/>", "The item does not contain <entry/>"),
        (f"<box><entry xmlns='{ATOM}'/></box>", "The item does not contain <entry/>"),
        ("<entry xmlns='urn:example:other'/>", "The item does not contain <entry/>"),
    ],
)
def test_an_item_without_an_entry_is_refused(payload: str, reason: str) -> None:
    for parser in (parse, parse_entry):
        with pytest.raises(ParseError) as caught:
            parser(ET.fromstring(f"<item xmlns='{PUBSUB}' id='0'>{payload}</item>"), PEP)
        assert str(caught.value).startswith(reason)
        assert str(caught.value).endswith(".")


def test_entries_and_feeds_have_parsers_of_their_own() -> None:
    with pytest.raises(ParseError, match="<entry/>"):
        parse_entry(item("", of="feed"), PEP)
    with pytest.raises(ParseError, match="<feed/>"):
        parse_feed(item(""), PEP)


def test_the_entry_is_found_beside_another_payload() -> None:
    element = item("<title>Frost</title>")
    element.insert(0, ET.Element("{urn:example:signature}sig"))
    assert parse_entry(element, PEP)["title"] == "Frost"


# Titles and contents


def test_plain_and_marked_up_content_are_combined() -> None:
    """XEP-0277, 2.3.1; in either order."""
    plain = "<content type='text'>Dig, then rest</content>"
    marked = f"<content type='xhtml'><div xmlns='{XHTML}'><p>Dig, <em>then rest</em></p></div></content>"
    for inner in (plain + marked, marked + plain):
        result = parsed(f"<title>Beds</title>{inner}")
        assert result["title"] == "Beds"
        assert result["content"] == "Dig, then rest"
        assert result["content_xhtml"] == "<div><p>Dig, <em>then rest</em></p></div>"


def test_a_marked_up_title_gives_its_text() -> None:
    result = parsed(
        f"<title type='xhtml'>\n<div xmlns='{XHTML}'>\n<p>Frost on <strong>roses</strong></p>\n</div></title>"
    )
    assert result["title"] == result["content"] == "Frost on roses"
    assert result["title_xhtml"] == result["content_xhtml"] == "<div><p>Frost on <strong>roses</strong></p></div>"


@pytest.mark.parametrize("kind", ["html", "text/html", "TEXT/HTML; charset=utf-8", " html "])
def test_html_is_sanitised_and_gives_its_text(kind: str) -> None:
    result = parsed(
        f"<content type='{kind}'>&lt;p onclick='x()'>Dig&amp;nbsp;&lt;b>deep&lt;/b>&lt;/p>&lt;p>Rest</content>"
    )
    assert result["content"] == "Dig deep\nRest"
    assert result["content_xhtml"] == "<div><p>Dig\xa0<b>deep</b></p><p>Rest</p></div>"


@pytest.mark.parametrize("kind", ["xhtml", "application/xhtml+xml", "xhtml+xml", "XHTML"])
def test_xhtml_is_sanitised(kind: str) -> None:
    result = parsed(
        f"<content type='{kind}'><div xmlns='{XHTML}'><p style='x'>Dig<script>x()</script></p>"
        "<a href='javascript:x()'>now</a></div></content>"
    )
    assert result["content"] == "Dig\nnow"
    assert result["content_xhtml"] == '<div><p>Dig</p><a rel="nofollow noopener noreferrer">now</a></div>'


@pytest.mark.parametrize(
    "kind", ["", "type=''", "type='text'", "type='text/plain'", "type='text/markdown'", "type='odd'"]
)
def test_text_is_not_read_as_markup(kind: str) -> None:
    result = parsed(f"<content {kind}> 1 &lt; 2 &amp;amp; &lt;b>3&lt;/b> </content>")
    assert result["content"] == "1 < 2 &amp; <b>3</b>"
    assert result["content_xhtml"] is None


@pytest.mark.parametrize("kind", ["image/png", "application/xml", "application/octet-stream"])
def test_binary_content_is_ignored(kind: str) -> None:
    assert parsed(f"<title>Rose</title><content type='{kind}'>iVBORw0KGgo=</content>")["content"] == "Rose"


def test_xhtml_without_a_div_or_namespace() -> None:
    assert parsed("<content type='xhtml'>just words</content>")["content"] == "just words"
    assert parsed("<content type='xhtml'><p>one</p><p>two</p></content>")["content"] == "one\ntwo"
    marked = f"<content><div xmlns='{XHTML}'><b>no type</b></div></content>"
    assert parsed(marked)["content_xhtml"] == "<div><b>no type</b></div>"


def test_first_non_empty_text_is_used() -> None:
    assert parsed("<title> </title><title>One</title><title type='text'>Two</title>")["title"] == "One"
    two = "<content type='html'>&lt;i>a&lt;/i></content><content type='html'>&lt;i>b&lt;/i></content>"
    assert parsed(two)["content_xhtml"] == "<div><i>a</i></div>"


def test_content_falls_back_to_summary_and_title() -> None:
    result = parsed("<title>Beds</title><summary type='html'>&lt;i>Short&lt;/i></summary>")
    assert (result["title"], result["summary"], result["content"]) == ("Beds", "Short", "Short")
    assert result["summary_xhtml"] == result["content_xhtml"] == "<div><i>Short</i></div>"
    result = parsed("<title>Beds</title><summary>Short</summary><content>Long</content>")
    assert (result["summary"], result["content"]) == ("Short", "Long")
    result = parsed("<title>Beds</title><content>  </content>")
    assert (result["title"], result["content"]) == ("Beds", "Beds")


def test_content_without_a_title() -> None:
    result = parsed("<content>Dig</content>")
    assert (result["title"], result["content"]) == (None, "Dig")


def test_external_content_becomes_a_link() -> None:
    result = parsed("<title>Talk</title><content src='https://garden.example/talk.ogg' type='audio/ogg'/>")
    assert result["content"] == "Talk"
    assert result["extra"]["alt_links"] == [{"url": "https://garden.example/talk.ogg", "media_type": "audio/ogg"}]


def test_language() -> None:
    assert parsed("<title xml:lang='cs'>R\u016f\u017ee</title>")["language"] == "cs"
    assert parsed("<title xml:lang='cs'>a</title><content xml:lang='de'>b</content>")["language"] == "de"
    assert parsed("<title>a</title>", attributes="id='1' xml:lang='fr'")["language"] == "fr"


def test_unicode_of_all_kinds() -> None:
    text = "\u05e9\u05dc\u05d5\u05dd \u202e \u4f60\u597d \U0001f469\u200d\U0001f33e e\u0301 \ufffd"
    result = parsed(
        f"<title>{text}</title><content type='html'>&lt;p>{text}</content><category term='\u0440\u043e\u0437\u0430'/>"
    )
    assert result["title"] == result["content"] == text
    assert result["tags"] == ["\u0440\u043e\u0437\u0430"]


# Dates


def test_published_falls_back_to_updated_and_not_the_reverse() -> None:
    result = parsed("<updated>2026-01-31T06:00:00Z</updated>")
    assert (result["published"], result["updated"]) == ("2026-01-31T06:00:00Z", "2026-01-31T06:00:00Z")
    result = parsed("<published>2026-01-31T06:00:00Z</published>")
    assert (result["published"], result["updated"]) == ("2026-01-31T06:00:00Z", None)


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("Sat, 31 Jan 2026 01:00:00 EST", "2026-01-31T06:00:00Z"),
        ("2026-01-31t07:00:00.75+01:00", "2026-01-31T06:00:00Z"),
        ("2199-01-01T00:00:00Z", "2199-01-01T00:00:00Z"),
        ("last week", None),
        ("2026-99-99T00:00:00Z", None),
        ("", None),
    ],
)
def test_dates_are_read_tolerantly(text: str, date: str | None) -> None:
    assert parsed(f"<title>x</title><updated>{text}</updated>")["updated"] == date


# Authorship


def test_author_is_verified_if_the_service_reports_the_same_publisher() -> None:
    result = parsed(MIRA, context=SERVICE, **by("mira@garden.example"))
    assert result["author"] == "Mira Moss"
    assert result["author_jid"] == "mira@garden.example"
    assert result["author_email"] == "mira@post.example"
    assert result["author_jid_verified"] is True


@pytest.mark.parametrize("publisher", ["mira@garden.example/shed", "Mira@Garden.Example"])
def test_publishers_are_compared_bare_and_normalised(publisher: str) -> None:
    assert parsed(MIRA, context=SERVICE, **by(publisher))["author_jid_verified"] is True
    context = ParseContext(SERVICE.service, SERVICE.node, publisher=publisher)
    assert parsed(MIRA, context=context)["author_jid_verified"] is True


def test_another_publisher_is_not_the_author() -> None:
    for context in (SERVICE, PEP, COMMENTS):
        result = parsed(MIRA, context=context, **by("mallory@weeds.example"))
        assert result["author_jid"] == "mira@garden.example"
        assert result["author_jid_verified"] is False


def test_publisher_of_the_context_is_preferred() -> None:
    context = ParseContext(SERVICE.service, SERVICE.node, publisher="mallory@weeds.example")
    assert parsed(MIRA, context=context, **by("mira@garden.example"))["author_jid_verified"] is False


def test_without_an_author_the_publisher_is_the_author() -> None:
    for author in (
        "",
        "<author/>",
        "<author><name>Mira</name></author>",
        "<author><uri>https://m.example</uri></author>",
    ):
        result = parsed(author, context=SERVICE, **by("mira@garden.example/shed"))
        assert result["author_jid"] == "mira@garden.example"
        assert result["author_jid_verified"] is True
    assert parsed("", context=SERVICE, **by("mira@garden.example"))["author"] == "mira"


def test_an_unknown_publisher_verifies_nobody() -> None:
    """A service may not report the publisher (XEP-0277, 9.1)."""
    result = parsed(MIRA, context=SERVICE)
    assert (result["author_jid"], result["author_jid_verified"]) == ("mira@garden.example", False)
    result = parsed("<title>x</title>", context=SERVICE)
    assert (result["author"], result["author_jid"], result["author_jid_verified"]) == (None, None, False)
    assert parsed(MIRA, context=SERVICE, **by("no jid"))["author_jid_verified"] is False


def test_owner_counts_as_publisher_in_pep_nodes() -> None:
    assert parsed(MIRA, context=PEP)["author_jid_verified"] is True
    result = parsed("<author><uri>xmpp:mallory@weeds.example</uri></author>", context=PEP)
    assert (result["author_jid"], result["author_jid_verified"]) == ("mallory@weeds.example", False)
    result = parsed("", context=PEP)
    assert (result["author_jid"], result["author_jid_verified"]) == ("mira@garden.example", False)


def test_owner_does_not_count_as_publisher_in_comments_nodes() -> None:
    assert parsed(MIRA, context=PEP_COMMENTS)["author_jid_verified"] is False
    assert parsed("", context=PEP_COMMENTS)["author_jid"] is None


def test_owner_does_not_count_as_publisher_of_items_from_other_senders() -> None:
    own = ParseContext(PEP.service, PEP.node, sender="mira@garden.example")
    other = ParseContext(PEP.service, PEP.node, sender="mallory@weeds.example")
    assert parsed(MIRA, context=own)["author_jid_verified"] is True
    assert parsed(MIRA, context=other)["author_jid_verified"] is False


@pytest.mark.parametrize("uri", ["xmpp:Mira@Garden.example", "xmpp:mira@garden.example/shed", "mira@garden.example"])
def test_spellings_of_the_author(uri: str) -> None:
    assert parsed(f"<author><uri> {uri} </uri></author>")["author_jid"] == "mira@garden.example"


@pytest.mark.parametrize("uri", ["xmpp:", "xmpp:not a jid", "https://mira.example", "", "xmpp:@@@"])
def test_author_without_a_valid_jid(uri: str) -> None:
    result = parsed(f"<author><name>Mira</name><uri>{uri}</uri></author>", context=SERVICE)
    assert (result["author"], result["author_jid"], result["author_jid_verified"]) == ("Mira", None, False)


def test_author_with_a_jid_is_preferred() -> None:
    assert parsed(f"<author><name>Otto</name></author>{MIRA}")["author"] == "Mira Moss"
    assert parsed(f"<source>{MIRA}</source>", context=SERVICE)["author_jid"] == "mira@garden.example"


# Links, tags and threads


def test_tags_are_trimmed_and_given_once() -> None:
    inner = "<category term=' rose '/><category term='rose'/><category term=''/><category/><category term='Frost'/>"
    assert parsed(inner)["tags"] == ["rose", "Frost"]


def test_comments() -> None:
    """XEP-0277, 3.1."""
    uri = "xmpp:pubsub.garden.example?;node=urn%3Axmpp%3Amicroblog%3A0%3Acomments%2F77"
    link = f"<link rel='replies' title='comments' href='{uri}'/>"
    assert parsed(link * 2)["comments"] == [
        {"uri": uri, "service": "pubsub.garden.example", "node": "urn:xmpp:microblog:0:comments/77"}
    ]


@pytest.mark.parametrize(
    "href", ["", "https://garden.example/c", "xmpp:garden.example", "xmpp:no jid?;node=a", "xmpp:?;node="]
)
def test_comments_links_without_a_node_are_ignored(href: str) -> None:
    assert parsed(f"<link rel='replies' title='comments' href='{href}'/><link rel='replies'/>")["comments"] == []


def test_attachments() -> None:
    inner = (
        "<link rel='enclosure' type='image/jpeg' title='A rose' length='20480' href='https://garden.example/r.jpg'/>"
        "<link rel='enclosure' href='https://garden.example/r.jpg'/>"
        "<link rel='related' href='https://garden.example/about' length='big'/>"
        "<link rel='enclosure'/><link rel='enclosure' href='javascript:x()'/>"
    )
    rose, about = parsed(inner)["extra"]["attachments"]
    assert rose == {
        "url": "https://garden.example/r.jpg",
        "sources": [{"url": "https://garden.example/r.jpg"}],
        "media_type": "image/jpeg",
        "desc": "A rose",
        "size": 20480,
        "external": False,
    }
    assert (about["url"], about["external"], about["size"]) == ("https://garden.example/about", True, None)


@pytest.mark.parametrize("length", ["-1", "1e3", "\u0661", "9" * 19, "9" * 5000, "1.5", " "])
def test_invalid_sizes(length: str) -> None:
    assert (
        parsed(f"<link rel='enclosure' href='https://x/y' length='{length}'/>")["extra"]["attachments"][0]["size"]
        is None
    )


def test_alternate_links() -> None:
    """XEP-0472, 4.3; a link without a relation is an alternate one (RFC 4287, 4.2.7.2)."""
    inner = (
        "<link rel='alternate' type='text/html' href='https://garden.example/p1'/>"
        "<link href='xmpp:mira@garden.example?;\n     node=urn%3Axmpp%3Amicroblog%3A0;\n     item=p1'/>"
        "<link rel='alternate' href='data:text/html,x'/><link rel='self' href='https://garden.example/p1.atom'/>"
    )
    assert parsed(inner)["extra"]["alt_links"] == [
        {"url": "https://garden.example/p1", "media_type": "text/html"},
        {"url": "xmpp:mira@garden.example?;node=urn%3Axmpp%3Amicroblog%3A0;item=p1", "media_type": None},
    ]


def test_a_repeated_post() -> None:
    """XEP-0472, 4.5: somebody else's entry, with a link to the original."""
    uri = "xmpp:mira@garden.example?;node=urn%3Axmpp%3Amicroblog%3A0;item=p1"
    inner = f"{MIRA}<title>Frost</title><link rel='via' href='{uri}' ref='tag:garden.example,2026:p1'/>"
    result = parsed(inner, context=ParseContext("otto@hedge.example", PEP.node), **by("otto@hedge.example/x"))
    assert result["extra"]["repeated"] == {
        "by": "otto@hedge.example",
        "uri": uri,
        "ref": "tag:garden.example,2026:p1",
        "service": "mira@garden.example",
        "node": "urn:xmpp:microblog:0",
        "item": "p1",
    }
    assert (result["author_jid"], result["author_jid_verified"]) == ("mira@garden.example", False)
    result = parsed(inner, context=ParseContext("otto@hedge.example", PEP.node))
    assert result["extra"]["repeated"]["by"] == "otto@hedge.example"
    assert parsed(inner, context=SERVICE)["extra"]["repeated"]["by"] is None
    elsewhere = parsed("<link rel='via' href='https://garden.example/p1'/>", context=SERVICE)["extra"]["repeated"]
    assert {key: value for key, value in elsewhere.items() if value} == {"uri": "https://garden.example/p1"}
    assert parsed("<link rel='via' href='javascript:x()'/>")["extra"]["repeated"] is None


@pytest.mark.parametrize(
    ("attributes", "is_picture"),
    [
        ("type='image/jpeg' href='https://x/file'", True),
        ("type='IMAGE/webp' href='https://x/file'", True),
        ("href='https://x/a.jpeg'", True),
        ("href='https://x/a.PNG?size=2#top'", True),
        ("type='audio/ogg' href='https://x/a.png'", False),
        ("href='https://x/?a.png'", False),
        ("href='https://x/png'", False),
        ("type='image/png' href='javascript:x()'", False),
    ],
)
def test_pictures_of_a_gallery(attributes: str, is_picture: bool) -> None:
    """XEP-0472, 5.3."""
    assert bool(parsed(f"<link rel='enclosure' {attributes}/>")["extra"]["pictures"]) is is_picture
    assert parsed(f"<link rel='related' {attributes}/>")["extra"]["pictures"] == []


def test_encrypted_posts_are_described() -> None:
    """XEP-0473 and XEP-0477."""
    element = item("")
    element[0].tag = "{urn:xmpp:openpgp:pubsub:0}encrypted"
    assert parse_entry(element, PEP)["encrypted"] is True


def test_reply_with_two_uris_of_one_post() -> None:
    """XEP-0472, 4.4."""
    ref, web = "tag:garden.example,2026:p1", "https://garden.example/p1"
    uri = "xmpp:pubsub.garden.example?;node=allotments;item=p1"
    inner = (
        f"<thr:in-reply-to ref='{ref}' type='text/html' href='{web}' source='{web}.atom'/>"
        f"<thr:in-reply-to ref='{ref}' href='{uri}'/><thr:in-reply-to ref='tag:other' href='https://other.example'/>"
    )
    assert parsed(inner)["reply"] == {
        "ref": ref,
        "href": web,
        "media_type": "text/html",
        "source": f"{web}.atom",
        "uri": uri,
        "service": "pubsub.garden.example",
        "node": "allotments",
        "item": "p1",
        "others": ["tag:other"],
    }


def test_minimal_reply() -> None:
    reply = parsed("<thr:in-reply-to/>")["reply"]
    assert reply.pop("others") == []
    assert set(reply.values()) == {None}
    assert parsed("<thr:in-reply-to ref='r' href='javascript:x()'/>")["reply"]["href"] is None
    assert parsed("<in-reply-to ref='r'/>")["reply"] is None


def test_geoloc() -> None:
    """XEP-0080 in an entry (XEP-0277, 6)."""
    inner = (
        "<geoloc xmlns='http://jabber.org/protocol/geoloc'><lat>48.17</lat><lon>-3.5e0</lon><country>France</country>"
        "<alt>high</alt><speed>inf</speed><bearing>nan</bearing><text/></geoloc>"
    )
    place = parsed(inner)["geoloc"]
    assert {key: value for key, value in place.items() if value is not None} == {
        "lat": 48.17,
        "lon": -3.5,
        "country": "France",
    }
    assert {"alt", "speed", "bearing", "text", "timestamp", "language"} <= set(place)
    assert parsed("<geoloc xmlns='http://jabber.org/protocol/geoloc'><alt>high</alt></geoloc>")["geoloc"] is None


def test_generator_and_source() -> None:
    result = parsed(
        "<generator uri='https://rake.example' version='4'>Rake</generator><source><id>tag:feed</id>"
        "<title type='html'>&lt;b>Feed&lt;/b></title><link href='https://feed.example'/></source>"
    )
    assert result["generator"] == {"name": "Rake", "uri": "https://rake.example", "version": "4"}
    assert {key: value for key, value in result["source"].items() if value} == {
        "id": "tag:feed",
        "title": "Feed",
        "title_xhtml": "<div><b>Feed</b></div>",
        "url": "https://feed.example",
        "links": [link("alternate", "https://feed.example")],
    }


def test_a_comment_as_published_without_a_date() -> None:
    """XEP-0277, 3.2: no id and no updated."""
    result = parsed(
        f"{MIRA}<title type='text'>So early!</title><published>2026-01-31T07:00:00Z</published>", context=COMMENTS
    )
    assert (result["content"], result["updated"], result["atom_id"]) == ("So early!", None, "")
    check(result)


def test_nodes_for_comments() -> None:
    assert is_comments_node("urn:xmpp:microblog:0:comments/77")
    assert is_comments_node("urn:xmpp:microblog:0:comments/")
    assert not is_comments_node("urn:xmpp:microblog:0")
    assert not is_comments_node("urn:xmpp:microblog:0:comments")
    assert not is_comments_node("x:urn:xmpp:microblog:0:comments/77")
