"""Test links, persons and other metadata of entries, and how their addresses are resolved against xml:base."""

from typing import Any

import pytest

from pubsubcache.parsers import elements
from pubsubcache.parsers.microblog import POSTS, parse
from tests.unit.parsers.entries import SERVICE, item, keys, parsed
from tests.unit.parsers.test_base import UNSAFE
from tests.unit.parsers.test_microblog import MIRA, link

BASE = "xml:base='https://garden.example/mira/'"
MEDIA = "xmlns:m='http://search.yahoo.com/mrss/'"


def rest(result: dict[str, Any]) -> list[tuple[str, dict[str, str], str | None]]:
    """Return the name, the attributes and the text of each element of the rest."""
    return [(one["name"], one["attributes"], one["text"]) for one in result["rest"]]


# Links


def test_links_with_another_relation_are_kept_with_all_their_attributes() -> None:
    inner = (
        "<link rel='self' type='application/atom+xml' title='Feed' hreflang='de' length='12' ref='tag:x'"
        " description='Words' logo='https://x.example/l.png' thr:count='3' thr:updated='2026-01-31T07:00:00+01:00'"
        " href='https://garden.example/p1.atom'/>"
        "<link rel='License' href='https://garden.example/licence'/>"
        "<link rel='http://www.iana.org/assignments/relation/up' href='xmpp:mira@garden.example'/>"
        "<link rel='https://x.example/Rel' href='https://x.example/'/>" * 2
    )
    result = parsed(inner)
    full = link(
        "self",
        "https://garden.example/p1.atom",
        media_type="application/atom+xml",
        title="Feed",
        language="de",
        length=12,
        ref="tag:x",
        description="Words",
        logo="https://x.example/l.png",
        count=3,
        updated="2026-01-31T06:00:00Z",
    )
    assert result["links"] == [
        full,
        link("license", "https://garden.example/licence"),
        link("up", "xmpp:mira@garden.example"),
        link("https://x.example/Rel", "https://x.example/"),
    ]
    assert result["rest"] == []


@pytest.mark.parametrize(
    "attributes",
    [
        "rel='alternate' type='text/html'",
        "type='text/html'",
        "rel='enclosure' type='image/png' title='A frog' length='9'",
        "rel='related' type='text/html' title='Frogs'",
        "rel='via' ref='tag:x'",
    ],
)
def test_links_that_their_own_key_describes_are_not_repeated(attributes: str) -> None:
    href = "href='https://garden.example/p1'"
    assert parsed(f"<link {attributes} {href}/>")["links"] == []
    assert len(parsed(f"<link {attributes} {href} hreflang='de'/>")["links"]) == 1
    assert parsed(f"<link {attributes} {href}/>" * 2)["links"] == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("rel='alternate' type='text/html'", "rel='alternate' type='text/plain'"),
        ("rel='enclosure'", "rel='enclosure' title='A frog'"),
        ("rel='enclosure'", "rel='related'"),
        ("rel='via' ref='tag:x'", "rel='via' ref='tag:y'"),
    ],
)
def test_links_with_the_same_url_and_another_value_are_kept(first: str, second: str) -> None:
    href = "href='https://garden.example/p1'"
    [kept] = parsed(f"<link {first} {href}/><link {second} {href}/>")["links"]
    assert all(f"'{value}'" in second for value in kept.values() if value and value != "https://garden.example/p1")


def test_external_content_at_the_address_of_a_link_is_told_once() -> None:
    inner = (
        "<link type='text/html' href='https://garden.example/p1'/>"
        "<content type='text/html' src='https://garden.example/p1'/>"
        "<content type='audio/ogg' src='https://garden.example/p1'/>"
    )
    assert [one["media_type"] for one in parsed(inner)["extra"]["alt_links"]] == ["text/html", "audio/ogg"]


def test_further_links_to_originals_are_kept() -> None:
    inner = "<link rel='via' href='https://a.example/'/><link rel='via' href='https://b.example/'/>"
    result = parsed(inner)
    assert result["extra"]["repeated"]["uri"] == "https://a.example/"
    assert result["links"] == [link("via", "https://b.example/")]


def test_links_to_comments() -> None:
    uri = "xmpp:pubsub.garden.example?;node=c"
    same = uri.replace("?;", "?")
    result = parsed(
        f"<link rel='replies' title='comments' href='{uri}'/><link rel='replies' href='{same}'/>"
        "<link rel='replies' type='text/html' href='https://garden.example/c'/>"
    )
    assert [one["uri"] for one in result["comments"]] == [uri]
    assert result["links"] == [
        link("replies", same),
        link("replies", "https://garden.example/c", media_type="text/html"),
    ]
    result = parsed(f"<link rel='replies' title='comments' href='{uri}' thr:count='2'/>")
    assert result["links"] == [link("replies", uri, title="comments", count=2)]
    assert parsed(f"<link rel='replies' title='Say something' href='{uri}'/>")["links"] != []


def test_embeds_have_their_title_and_description() -> None:
    inner = "<link rel='related' href='https://x.example/film' title='Frogs' description='A film' logo='https://x.example/f'/>"
    result = parsed(inner)
    assert result["extra"]["attachments"][0]["desc"] == "Frogs"
    assert result["links"] == [
        link("related", "https://x.example/film", title="Frogs", description="A film", logo="https://x.example/f")
    ]


@pytest.mark.parametrize("rel", ["alternate", "enclosure", "related", "via", "replies", "self"])
@pytest.mark.parametrize("href", ["page", "/admin/logout/", "//evil.example/", "?a", "#a", "https:/admin"])
def test_relative_links_are_only_in_the_list_of_links(rel: str, href: str) -> None:
    result = parsed(f"<link rel='{rel}' type='image/png' href='{href}'/>")
    assert result["links"] == [link(rel, href, media_type="image/png")]
    assert result["extra"] == {"repeated": None, "attachments": [], "pictures": [], "alt_links": []}
    assert result["comments"] == []


@pytest.mark.parametrize("href", UNSAFE)
@pytest.mark.parametrize("rel", ["alternate", "enclosure", "self"])
def test_unsafe_links_are_left_to_the_rest(rel: str, href: str) -> None:
    element = item("<link/>", own=BASE)
    element[0][0].attrib.update({"rel": rel, "href": href, "title": "Click me"})
    result = parse(element, SERVICE)
    assert result["links"] == []
    assert [one["attributes"]["title"] for one in result["rest"]] == ["Click me"]
    assert "javascript" not in str({**result, "rest": None})


def test_unreadable_values_of_links_are_left_to_the_rest() -> None:
    unreadable = "length='big' logo='l.png' thr:count='many' thr:updated='soon' x='y'"
    inner = f"<link rel='self' href='https://x.example/' {unreadable}/>"
    thread = "{http://purl.org/syndication/thread/1.0}"
    assert rest(parsed(inner)) == [
        (
            "link",
            {"length": "big", "logo": "l.png", f"{thread}count": "many", f"{thread}updated": "soon", "x": "y"},
            None,
        )
    ]


# xml:base


def test_addresses_are_resolved() -> None:
    inner = (
        "<link rel='enclosure' type='image/png' logo='l.png' href='r.png'/>"
        "<link href='p1'/><link rel='via' href='/p0'/><content src='talk.ogg' type='audio/ogg'/>"
        "<icon>i.png</icon><logo>../l.png</logo>"
        "<generator uri='/rake'>Rake</generator><author><name>Mira</name><uri>about</uri></author>"
        "<contributor><uri>//hedge.example/otto</uri></contributor>"
        "<thr:in-reply-to href='p0' source='feed.atom'/>"
        "<source><link rel='self' href='s.atom'/><icon>s.png</icon></source>"
        f"<m:content {MEDIA} url='film.webm'/>"
    )
    result = parsed(inner, own=BASE)
    home = "https://garden.example/mira/"
    assert result["extra"]["attachments"][0]["url"] == f"{home}r.png"
    assert result["extra"]["pictures"] == [f"{home}r.png"]
    assert [one["url"] for one in result["extra"]["alt_links"]] == [f"{home}p1", f"{home}talk.ogg"]
    assert result["extra"]["repeated"]["uri"] == "https://garden.example/p0"
    assert (result["icon"], result["logo"]) == (f"{home}i.png", "https://garden.example/l.png")
    assert result["generator"]["uri"] == "https://garden.example/rake"
    assert result["authors"][0]["uri"] == f"{home}about"
    assert result["contributors"][0]["uri"] == "https://hedge.example/otto"
    assert (result["reply"]["href"], result["reply"]["source"]) == (f"{home}p0", f"{home}feed.atom")
    assert (result["source"]["url"], result["source"]["icon"]) == (f"{home}s.atom", f"{home}s.png")
    assert result["media"][0]["url"] == f"{home}film.webm"
    assert result["links"] == [link("enclosure", f"{home}r.png", media_type="image/png", logo=f"{home}l.png")]
    assert rest(result) == [("content", {"type": "audio/ogg"}, None)]


def test_addresses_that_cannot_be_resolved_are_left_to_the_rest() -> None:
    inner = (
        "<content src='talk.ogg'/><icon>i.png</icon><logo>../l.png</logo><generator uri='/rake'>Rake</generator>"
        "<author><name>Mira</name><uri>about</uri></author><thr:in-reply-to href='p0' source='feed.atom'/>"
        f"<m:content {MEDIA} url='film.webm'/>"
    )
    for own in ("", "xml:base='mira/'", "xml:base='javascript:x'"):
        result = parsed(inner, own=own)
        assert (result["icon"], result["logo"], result["generator"]["uri"]) == (None, None, None)
        assert rest(result) == [
            ("content", {"src": "talk.ogg"}, None),
            ("icon", {}, "i.png"),
            ("logo", {}, "../l.png"),
            ("generator", {"uri": "/rake"}, None),
            ("uri", {}, "about"),
            ("in-reply-to", {"href": "p0", "source": "feed.atom"}, None),
            ("content", {"url": "film.webm"}, None),
        ]


def test_bases_are_nested_on_any_element() -> None:
    inner = (
        "<link xml:base='a/' href='1'/><link xml:base='https://hedge.example/' href='2'/><link href='3'/>"
        "<author xml:base='b/'><uri xml:base='c/'>4</uri></author><icon xml:base='/d/'>5</icon>"
        "<source xml:base='e/'><link rel='self' xml:base='f/' href='6'/>"
        "<link rel='self' xml:base='f/' href='6'/></source>"
        f"<m:group {MEDIA} xml:base='h/'><m:content xml:base='i/' url='9'/></m:group>"
        "<content type='html' xml:base='g/'>&lt;a href='7'>x&lt;/a></content>"
        "<summary type='html' xml:base='javascript:x()'>&lt;a href='8'>x&lt;/a></summary>"
    )
    result = parsed(inner, own=BASE, attributes="id='1' xml:base='https://other.example/'")
    home = "https://garden.example/mira/"
    assert [one["url"] for one in result["extra"]["alt_links"]] == [f"{home}a/1", "https://hedge.example/2", f"{home}3"]
    assert result["authors"][0]["uri"] == f"{home}b/c/4"
    assert result["icon"] == "https://garden.example/d/5"
    assert [one["url"] for one in result["source"]["links"]] == [result["source"]["url"]] == [f"{home}e/f/6"]
    assert result["media"][0]["url"] == f"{home}h/i/9"
    assert f'href="{home}g/7"' in result["content_xhtml"]
    assert "href" not in result["summary_xhtml"]
    assert [one["name"] for one in result["rest"]] == ["item"], "the shape of an item has no base"


def test_what_is_not_read_keeps_its_base() -> None:
    second = "<source xml:base='https://hedge.example/'><link rel='self' href='b'/></source>"
    result = parsed(f"<source><id>1</id></source>{second}")
    [found] = result["rest"]
    assert found["attributes"] == {"{http://www.w3.org/XML/1998/namespace}base": "https://hedge.example/"}
    assert found["children"][0]["attributes"] == {"rel": "self", "href": "b"}


def test_the_base_of_the_item_counts() -> None:
    around = "id='1' xml:base='https://garden.example/'"
    assert parsed("<icon>i.png</icon>", attributes=around)["icon"] == "https://garden.example/i.png"
    assert (
        parsed("<icon>i.png</icon>", attributes=around, own="xml:base='a/'")["icon"] == "https://garden.example/a/i.png"
    )


def test_ids_and_schemes_are_not_resolved() -> None:
    result = parsed("<id>p1</id><category term='x' scheme='subjects'/>", own=BASE)
    assert (result["atom_id"], result["categories"][0]["scheme"]) == ("p1", "subjects")


# Persons, categories, replies, media, sources


def test_all_authors_and_contributors_are_kept() -> None:
    inner = (
        f"<author><name>Otto</name><uri>https://otto.example</uri></author>{MIRA}<author/>"
        "<contributor><name>Ida</name></contributor><contributor><email>bo@post.example</email></contributor>"
    )
    result = parsed(inner)
    mira = {"name": "Mira Moss", "email": "mira@post.example", "jid": "mira@garden.example", "uri": None}
    assert result["authors"] == [{"name": "Otto", "email": None, "jid": None, "uri": "https://otto.example"}, mira]
    assert [one["name"] or one["email"] for one in result["contributors"]] == ["Ida", "bo@post.example"]
    assert (result["author"], result["author_jid"]) == ("Mira Moss", "mira@garden.example")
    assert result["rest"] == []


def test_a_person_with_several_addresses() -> None:
    addresses = ("https://a.example", "xmpp:mira@garden.example", "https://b.example", "mira@hedge.example")
    result = parsed(f"<author>{''.join(f'<uri>{one}</uri>' for one in addresses)}</author>")
    assert result["authors"] == [
        {"name": None, "email": None, "jid": "mira@garden.example", "uri": "https://a.example"}
    ]
    assert rest(result) == [("uri", {}, "https://b.example"), ("uri", {}, "mira@hedge.example")]


@pytest.mark.parametrize("uri", ["xmpp:mira@garden.example/shed", "xmpp:mira@garden.example?message;body=x"])
def test_what_a_jid_says_beyond_itself_is_left_to_the_rest(uri: str) -> None:
    result = parsed(f"<author><uri>{uri}</uri></author>")
    assert (result["authors"][0]["jid"], rest(result)) == ("mira@garden.example", [("uri", {}, uri)])


@pytest.mark.parametrize("uri", ["acct:mira@garden.example", "javascript:x()", "mira's page"])
def test_other_addresses_of_persons_are_left_to_the_rest(uri: str) -> None:
    result = parsed(f"<author><name>Mira</name><uri>{uri}</uri></author>")
    assert result["authors"][0]["uri"] is None
    assert rest(result) == [("uri", {}, uri)]


def test_the_authors_of_the_source_stand_in_for_those_of_the_entry() -> None:
    result = parsed(f"<source><author><name>Otto</name></author>{MIRA}</source>", context=SERVICE)
    assert (result["author"], result["author_jid"], result["authors"]) == ("Mira Moss", "mira@garden.example", [])
    assert [one["name"] for one in result["source"]["authors"]] == ["Otto", "Mira Moss"]
    result = parsed(f"<author><name>Ida</name></author><source>{MIRA}</source>", context=SERVICE)
    assert (result["author"], result["author_jid"]) == ("Ida", None)


def test_categories_have_their_scheme_and_label() -> None:
    inner = (
        "<category term=' rose ' scheme='https://x.example/s' label='Rose'/><category label='Frost'/><category/>"
        "<category scheme='https://x.example/s'/><category term='rose' xml:lang='de'>r</category>"
    )
    result = parsed(inner)
    scheme = "https://x.example/s"
    assert result["categories"] == [
        {"term": "rose", "scheme": scheme, "label": "Rose"},
        {"term": None, "scheme": None, "label": "Frost"},
        {"term": None, "scheme": scheme, "label": None},
        {"term": "rose", "scheme": None, "label": None},
    ]
    assert result["tags"] == ["rose", "Frost"]
    assert [(name, text) for name, _, text in rest(result)] == [("category", "r")]


def test_all_elements_of_replies_are_kept() -> None:
    inner = (
        "<thr:in-reply-to ref='r' type='text/html' href='https://a.example/'/>"
        "<thr:in-reply-to ref='r' type='text/plain' href='https://b.example/' source='https://b.example/feed'/>"
        "<thr:in-reply-to ref='s' href='xmpp:x.example?;node=n'>why</thr:in-reply-to>"
        "<thr:total> 7 </thr:total>"
    )
    result = parsed(inner)
    assert [tuple(one.values()) for one in result["in_reply_to"]] == [
        ("r", "https://a.example/", "text/html", None),
        ("r", "https://b.example/", "text/plain", "https://b.example/feed"),
        ("s", "xmpp:x.example?;node=n", None, None),
    ]
    assert result["replies_total"] == 7
    assert rest(result) == [("in-reply-to", {}, "why")]
    assert parsed("<thr:total>lots</thr:total>")["replies_total"] is None


def test_media() -> None:
    inner = (
        f"<m:thumbnail {MEDIA} url='https://x.example/t' width='3' height='2'/><m:group {MEDIA}><m:title>G</m:title>"
        "<m:content url='https://x.example/f' type='video/webm' medium='video' fileSize='9' duration='1.5' width='w'>"
        "<m:title>Frogs</m:title><m:description>Two</m:description></m:content></m:group>"
    )
    result = parsed(inner)
    thumbnail, film = result["media"]
    assert {key: value for key, value in thumbnail.items() if value is not None} == {
        "kind": "thumbnail",
        "url": "https://x.example/t",
        "width": 3,
        "height": 2,
    }
    assert film == {
        "kind": "content",
        "url": "https://x.example/f",
        "media_type": "video/webm",
        "medium": "video",
        "size": 9,
        "width": None,
        "height": None,
        "duration": 1.5,
        "title": "Frogs",
        "description": "Two",
    }
    assert rest(result) == [("title", {}, "G"), ("content", {"width": "w"}, None)]


def test_a_source_has_all_that_a_feed_has() -> None:
    inner = (
        "<source xml:lang='de'><id>tag:feed</id><title>Feed</title><subtitle>Sub</subtitle>"
        "<title xml:lang='en'>F</title><updated>2026-01-31T06:00:00Z</updated><author><name>A</name></author>"
        "<contributor><name>C</name></contributor><category term='t' label='l'/><generator version='4'>Rake</generator><icon>https://x.example/i</icon>"
        "<logo>https://x.example/l</logo><rights>free</rights><link rel='self' href='https://x.example/s'/>"
        "<link title='Home' href='https://x.example/h'/><published>2026</published></source><source><id>2</id></source>"
    )
    result = parsed(inner)
    source = result["source"]
    assert (source["id"], source["url"], source["title"], source["subtitle"]) == (
        *("tag:feed", "https://x.example/s", "Feed", "Sub"),
    )
    assert (source["language"], [one["title"] for one in source["translations"]]) == ("de", ["Feed", "F"])
    assert (source["updated"], source["rights"]) == ("2026-01-31T06:00:00Z", "free")
    assert (source["authors"][0]["name"], source["contributors"][0]["name"]) == ("A", "C")
    assert source["categories"] == [{"term": "t", "scheme": None, "label": "l"}]
    assert source["generator"] == {"name": "Rake", "uri": None, "version": "4"}
    assert (source["icon"], source["logo"]) == ("https://x.example/i", "https://x.example/l")
    assert [one["title"] for one in source["links"]] == [None, "Home"]
    assert [one["path"] for one in result["rest"]] == ["entry/source", "entry"]
    [meaning] = [key.meaning for key in POSTS.keys if key.name == "source"]
    assert all(f"`{key}`" in meaning for key in source)


def test_lists_are_bounded_and_the_others_are_left_to_the_rest() -> None:
    many = elements.MAX_ELEMENTS + 2
    pieces = [
        "<link rel='self' href='https://x.example/{}'/>",
        "<category term='{}' scheme='s'/>",
        "<author><name>{}</name></author>",
        "<contributor><name>{}</name></contributor>",
        "<thr:in-reply-to ref='{}'/>",
        "<rights>{}</rights>",
    ]
    lists = ["links", "categories", "authors", "contributors", "in_reply_to", "translations"]
    for piece, name in zip(pieces, lists, strict=True):
        result = parsed("".join(piece.format(number) for number in range(many)))
        assert len(result[name]) == elements.MAX_ELEMENTS, name
        assert len(result["rest"]) == 2, name
    unsafe = "<link href='javascript:x()'/>" * many
    result = parsed(unsafe + "<link rel='self' href='https://x.example/'/>")
    assert len(result["links"]) == 1


def test_the_keys_of_objects_are_documented() -> None:
    inner = f"{MIRA}<link rel='self' href='https://x.example/'/><m:content {MEDIA} url='https://x.example/'/>"
    result = parsed(inner + "<thr:in-reply-to/><category term='a'/><title>1</title><title>2</title>")
    meanings = {key.name: key.meaning for key in POSTS.keys}
    for name in ("authors", "links", "media", "in_reply_to", "categories", "translations"):
        assert f"{{{', '.join(result[name][0])}}}" in meanings[name], name
    assert keys(POSTS) == set(result) - {"rest", "rest_truncated"}
