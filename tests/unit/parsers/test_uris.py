import pytest

from pubsubcache.parsers import uris
from pubsubcache.parsers.uris import XmppUri


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        (
            "xmpp:mira@garden.example?;node=urn%3Axmpp%3Amicroblog%3A0;item=a%20b",
            XmppUri("mira@garden.example", "urn:xmpp:microblog:0", "a b"),
        ),
        ("XMPP:Garden.Example?node=a&item=b", XmppUri("garden.example", "a", "b")),
        ("xmpp:garden.example?pubsub;action=retrieve;node=a", XmppUri("garden.example", "a", None)),
        ("xmpp:garden.example?;\n   node=a;\n   item=b ", XmppUri("garden.example", "a", "b")),
        ("xmpp://me@home.example/garden.example?;node=a#top", XmppUri("garden.example", "a", None)),
        ("xmpp:b%C3%A9a@garden.example", XmppUri("b\u00e9a@garden.example", None, None)),
        ("xmpp:garden.example?;node=a;node=b", XmppUri("garden.example", "a", None)),
        ("xmpp:garden.example?;node=%00a%ED%A0%80", XmppUri("garden.example", "a\ufffd\ufffd\ufffd", None)),
    ],
)
def test_xmpp_uris(uri: str, target: XmppUri) -> None:
    assert uris.parse_xmpp(uri) == target


@pytest.mark.parametrize(
    "uri", [None, "", "xmpp:", "xmpp:?;node=a", "xmpp:a b@c", "https://garden.example", "xmpp:" + "a" * 10_000]
)
def test_invalid_xmpp_uris_return_none(uri: str | None) -> None:
    assert uris.parse_xmpp(uri) is None


@pytest.mark.parametrize("text", ["node/with?all;of=them&%", " leading", "urn:xmpp:microblog:0", "\u00fc\U0001f331"])
def test_item_uris_round_trip(text: str) -> None:
    uri = uris.item_uri("pubsub.garden.example", "n" + text + "n", "i" + text + "i")
    assert uri.isascii()
    assert uris.parse_xmpp(uri) == XmppUri("pubsub.garden.example", "n" + text + "n", "i" + text + "i")


def test_bare_jids() -> None:
    assert uris.bare_jid("xmpp:Mira@Garden.example/phone?message") == "mira@garden.example"
    assert uris.bare_jid("mira@garden.example") == "mira@garden.example"
    assert uris.bare_jid("mailto:mira@garden.example") is None
    assert uris.bare_jid("https://mira@garden.example") is None
    assert uris.bare_jid("Mira") is None


@pytest.mark.parametrize(
    "href",
    ["https://garden.example/a?b=c:d", "mailto:a@b", "XMPP:a@b", "relative/path", "/root", "//host/path", "#top"],
)
def test_safe_links(href: str) -> None:
    assert uris.link(f" {href}\n") == href


@pytest.mark.parametrize(
    "href",
    [
        None,
        "  ",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\tscript:alert(1)",
        "java\nscript:alert(1)",
        "\x01javascript:alert(1)",
        "\u200bjavascript:alert(1)",
        "\xa0javascript:alert(1)",
        "javascript :alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/passwd",
        "blob:https://x/y",
        "https://x/" + "a" * 9000,
    ],
)
def test_unsafe_links(href: str | None) -> None:
    assert uris.link(href) is None


def test_white_space_in_links() -> None:
    assert uris.link("https://garden.example/my rose.jpg") == "https://garden.example/my%20rose.jpg"
    assert uris.link("xmpp:garden.example?;\n  node=a;\n  item=b") == "xmpp:garden.example?;node=a;item=b"
