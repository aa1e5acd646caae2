"""Test items that describe a blog or a comments node: Atom feeds (XEP-0277, 5)."""

from typing import Any

import pytest

from pubsubcache.analysers.builtin import builtin_analysers
from pubsubcache.parsers import ParseContext
from pubsubcache.parsers.microblog import BLOGS, POSTS, parse
from pubsubcache.parsers.schema import schemas_of
from tests.unit.parsers.entries import PEP, SERVICE, check, item, keys, parsed
from tests.unit.parsers.test_microblog import MIRA, by, link

COMMENTS = ParseContext("pubsub.garden.example", "urn:xmpp:microblog:0:comments/77")


def feed(inner: str, context: ParseContext = PEP, **how: Any) -> dict[str, Any]:
    """Parse a feed that contains `inner`, and check the result."""
    return parsed(inner, context, of="feed", **{"attributes": "id='0'", **how})


def test_a_feed_describes_the_blog() -> None:
    result = feed(f"<title>Mira's garden</title><id>tag:mira</id><updated>2026-01-31T06:00:00Z</updated>{MIRA}")
    assert result == {
        "feed": True,
        "id": "0",
        "atom_id": "tag:mira",
        "service": "mira@garden.example",
        "node": "urn:xmpp:microblog:0",
        "uri": "xmpp:mira@garden.example?;node=urn%3Axmpp%3Amicroblog%3A0;item=0",
        "language": None,
        "title": "Mira's garden",
        "title_xhtml": None,
        "subtitle": None,
        "subtitle_xhtml": None,
        "rights": None,
        "rights_xhtml": None,
        "translations": [],
        "updated": "2026-01-31T06:00:00Z",
        "author": "Mira Moss",
        "author_jid": "mira@garden.example",
        "author_jid_verified": True,
        "author_email": "mira@post.example",
        "authors": [{"name": "Mira Moss", "email": "mira@post.example", "jid": "mira@garden.example", "uri": None}],
        "contributors": [],
        "tags": [],
        "categories": [],
        "generator": None,
        "icon": None,
        "logo": None,
        "start": None,
        "links": [],
        "rest": [],
        "rest_truncated": False,
    }


def test_an_empty_feed_is_a_feed() -> None:
    result = feed("", context=SERVICE, attributes="")
    assert [key for key, value in result.items() if value] == ["feed", "service", "node", "uri"]


def test_all_metadata_of_a_feed() -> None:
    inner = (
        "<title type='html'>&lt;b>Garden&lt;/b></title>"
        "<subtitle>Frogs</subtitle><subtitle xml:lang='de'>Fr\u00f6sche</subtitle>"
        "<rights>free</rights><contributor><name>Otto</name></contributor><category term='pond' label='Pond'/>"
        "<generator uri='/rake'>Rake</generator><icon>i.png</icon><logo>l.png</logo><link href='.' title='Home'/>"
    )
    result = feed(inner, own="xml:lang='en' xml:base='https://garden.example/mira/'")
    assert (result["language"], result["title_xhtml"]) == ("en", "<div><b>Garden</b></div>")
    assert [one["subtitle"] for one in result["translations"]] == ["Frogs", "Fr\u00f6sche"]
    assert (result["rights"], result["contributors"][0]["name"], result["tags"]) == ("free", "Otto", ["pond"])
    assert result["generator"]["uri"] == "https://garden.example/rake"
    assert (result["icon"], result["logo"]) == (
        "https://garden.example/mira/i.png",
        "https://garden.example/mira/l.png",
    )
    assert result["links"] == [link("alternate", "https://garden.example/mira/", title="Home")]
    assert result["rest"] == []


def test_the_feed_of_a_comments_node_links_to_the_post() -> None:
    uri = "xmpp:mira@garden.example?;node=urn%3Axmpp%3Amicroblog%3A0;item=p1"
    inner = f"<title>Comments</title><link rel='start' href='{uri}' ref='tag:p1'/><link rel='start' href='https://x'/>"
    result = feed(inner, context=COMMENTS)
    assert result["start"] == {
        "uri": uri,
        "service": "mira@garden.example",
        "node": "urn:xmpp:microblog:0",
        "item": "p1",
        "ref": "tag:p1",
    }
    assert result["links"] == [link("start", uri, ref="tag:p1"), link("start", "https://x")]
    assert feed("<link rel='start' href='p1'/>")["start"] is None


@pytest.mark.parametrize(
    ("context", "publisher", "expected"),
    [
        (PEP, "", ("mira@garden.example", True)),
        (SERVICE, "", ("mira@garden.example", False)),
        (SERVICE, "mira@garden.example/x", ("mira@garden.example", True)),
        (PEP, "mallory@weeds.example", ("mira@garden.example", False)),
        (COMMENTS, "", ("mira@garden.example", False)),
    ],
)
def test_the_author_of_a_feed_is_verified_like_that_of_a_post(
    context: ParseContext, publisher: str, expected: tuple[str, bool]
) -> None:
    result = feed(MIRA, context=context, **(by(publisher) if publisher else {}))
    assert (result["author_jid"], result["author_jid_verified"]) == expected


def test_entries_in_a_feed_are_left_to_the_rest() -> None:
    result = feed("<title>Garden</title><entry><title>Frost</title></entry><summary>x</summary>")
    assert result["title"] == "Garden"
    assert [(one["path"], one["name"]) for one in result["rest"]] == [("feed", "entry"), ("feed", "summary")]


def test_an_entry_beside_a_feed_is_parsed() -> None:
    for order in (1, -1):
        element = item("<title>Frost</title>")
        element.append(item("<title>Garden</title>", of="feed")[0])
        element[:] = list(element)[::order]
        result = parse(element, PEP)
        check(result)
        assert result["title"] == "Frost"
        assert [one["name"] for one in result["rest"]] == ["feed"]


def test_encrypted_feeds_are_described() -> None:
    element = item("", of="feed")
    element[0].tag = "{urn:xmpp:openpgp:pubsub:0}encrypted"
    assert parse(element, PEP)["encrypted"] is True


def test_the_analyser_parses_posts_and_feeds() -> None:
    [analyser] = [one for one in builtin_analysers() if one.name == "microblog"]
    assert analyser.type == "blog"
    assert schemas_of(analyser.parser) == (POSTS, BLOGS)


def test_posts_have_no_key_of_feeds_only() -> None:
    """`parsed__has_key="feed"` tells them apart."""
    assert "feed" not in keys(POSTS)
    assert keys(BLOGS) - keys(POSTS) == {"feed", "subtitle", "subtitle_xhtml", "start"}
