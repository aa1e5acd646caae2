"""Test that the cache and slixmpp normalise JIDs alike and refuse the same ones."""

import stringprep

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from slixmpp import JID, InvalidJID

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.utils import jid
from tests.selection import how_many


def ours(text: str) -> str | None:
    try:
        return jid.normalise(text)
    except InvalidRequest:
        return None


def of_slixmpp(text: str) -> str | None:
    try:
        return str(JID(text)) or None
    except (InvalidJID, UnicodeEncodeError):
        return None


def as_kept(text: str) -> str:
    """Return slixmpp's form of a JID with the domain as the cache spells it, which follows DNS."""
    rest, slash, resource = text.partition("/")
    local, at, domain = rest.rpartition("@")
    domain = domain.lower() if domain.startswith("[") else domain.replace("\u3002", ".").removesuffix(".")
    return f"{local}{at}{domain}{slash}{resource}"


def check(text: str) -> None:
    assume(len(text) <= jid.MAX_LENGTH and (text.lstrip() if "/" in text else text.strip()) == text)
    kept, sent = ours(text), of_slixmpp(text)
    if any(map(stringprep.in_table_a1, text)):  # not in Unicode 3.2; slixmpp maps some to older characters
        assert kept is None
    else:
        assert kept == (None if sent is None else as_kept(sent))
    if kept is not None:
        assert of_slixmpp(kept) == ours(kept) == kept
        assert kept.isprintable()


def is_old(character: str) -> bool:
    return not stringprep.in_table_a1(character)


ODD = (
    "aAzZ019-._~!\"$&'()*+,;=`{}%:<>[]^| \u00df\u0130\u0131\u017f\u03c2\u1e9e\ufb01\uff21\uff41\uff0e\u3002\uff20\uff0f"
)
ODD += "\u00ad\u200b\u200c\u200d\u0301\u0323\u0345\u094d\u0915\u05d0\u0627\u0661\u06f1\u2665\u212a\u10a0\u13a0\u2f868"
ODD += "\ufdfa\u1100\u1161\u202e\u2028\0\t\x7f\u0085\ud800\U0001f600\U0001d7ca\u0e33\u0340\u2024\u2488\u115f\u17b4"
texts = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(max_codepoint=0x3FFF).filter(is_old), max_size=8),
    st.text(st.characters(max_codepoint=0x2FFFF).filter(is_old), max_size=4),
    st.text(st.sampled_from(ODD), max_size=8),
    st.text(st.sampled_from("\u05d0\u05d1\u0627\u06611a-\u0301."), max_size=6),
    st.builds(lambda one, number: one * number, st.sampled_from("aé日\u00ad\u0301\ufdfa"), st.integers(50, 1100)),
    st.integers(0, 3).flatmap(lambda more: st.sampled_from(["x" * (1022 + more), "é" * (510 + more)])),
)
unicode_labels = st.text(st.characters(max_codepoint=0x3FFF).filter(is_old), min_size=1, max_size=6)
labels = st.one_of(
    texts,
    st.sampled_from(
        ["a", "example", "xn--bcher-kva", "XN--BCHER-KVA", "xn--zca", "xn--ls8h", "xn--", "xn--a-", "a--b"]
    ),
    st.sampled_from(["ab--c", "-a", "a-", "1", "bücher", "faß", "xn--bücher", "x" * 63, "x" * 64, "é" * 56, "é" * 58]),
    st.text(st.sampled_from("abyz0189-"), max_size=12).map("xn--".__add__),
    unicode_labels.map(lambda text: "xn--" + text.encode("punycode").decode()),
)
addresses = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map("[{}]".format),
    st.sampled_from(
        ["[::FFFF:1.2.3.4]", "[FE80::0001]", "[fe80::1%eth0]", "[::1", "::1]", "[1.2.3.4]", "[]", "[v1.x]"]
    ),
    st.sampled_from(["1.2.3", "01.2.3.4", "256.1.1.1", "1.2.3.4.", "[::1].", "[\u0661::1]", "[::ffff:01.2.3.4]"]),
)
domains = st.one_of(
    addresses,
    labels,
    st.lists(labels, max_size=4).map(".".join),
    st.integers(55, 63).map(lambda size: ".".join(["x" * size] * 4)),
    st.lists(labels, min_size=1, max_size=2).map(lambda parts: ".".join(parts) + "."),
)
jids = st.one_of(
    texts,
    domains,
    st.builds("{}@{}".format, texts, domains),
    st.builds("{}/{}".format, domains, texts),
    st.builds("{}@{}/{}".format, texts, domains, texts),
)


@example("straße@example.org")
@example("\uff21\uff4c\uff49\uff43\uff45@example.org")
@example("\ufb01sh@\ufb01sh.example/\ufb01sh")
@example("ΣΊΣΥΦΟΣ@σίσυφος.example")
@example("a@faß.example")
@example("a@xn--fa-hia.example")
@example("a@b\u3002c")
@example("a@b/ c ")
@example("\u10a0\u13a0\u04c0\u2132@b.example")
@example("\U0002f868@b.example")
@example("\u05d0\u0cbf\u05d0@b.example")
@example("a@\u05d0.1\u05d0")
@example("a@b.\u00ad")
@settings(max_examples=how_many(200, 1000))
@given(jids)
def test_texts_are_normalised_as_by_slixmpp(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    "context", ["{}@b", "x{}y@b", "\u05d0{}\u05d0@b", "b/{}", "{}.b", "b.{}", "x{}y", "\u05d0{}\u05d0"]
)
@settings(max_examples=30)
@given(characters=st.sets(st.characters().filter(is_old), min_size=20, max_size=20))
def test_characters_are_normalised_as_by_slixmpp(context: str, characters: set[str]) -> None:
    for character in characters:
        if not character.isspace():
            check(context.format(character))


def test_the_bare_jid_does_not_depend_on_a_resource_that_slixmpp_refuses() -> None:
    text = "Alice@Example.org/\U0001f600"
    assert (of_slixmpp(text), ours(text)) == (None, None)
    assert jid.bare(text) == "alice@example.org"
