"""Test the normalisation and validation of JIDs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.utils import jid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example.org", "example.org"),
        ("Example.ORG.", "example.org"),
        (" alice@example.org ", "alice@example.org"),
        ("Alice@Example.org/Home Sweet", "alice@example.org/Home Sweet"),
        ("a@b/c/d@e", "a@b/c/d@e"),
        ("pubsub.example.org/bot@x", "pubsub.example.org/bot@x"),
        ("e\u0301va@example.org", "\u00e9va@example.org"),
        ("ÉVA@EXAMPLE.org", "éva@example.org"),
        ("a@[::1]", "a@[::1]"),
        ("a@127.0.0.1", "a@127.0.0.1"),
        ("a@localhost", "a@localhost"),
        ("a@bücher.example", "a@bücher.example"),
        ("a@हिन्दी.example", "a@हिन्दी.example"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("straße@straße.example/Straße", "strasse@strasse.example/Straße"),
        ("\uff21lice@example\uff0eorg/\uff28ome", "alice@example.org/Home"),
        ("\ufb01sh@example.org/\ufb01sh", "fish@example.org/fish"),
        (
            "\u03a3\u0399\u03a3\u03a5\u03a6\u039f\u03a3@b.example",
            "\u03c3\u03b9\u03c3\u03c5\u03c6\u03bf\u03c3@b.example",
        ),
        ("soft\u00adhyphen@example.org", "softhyphen@example.org"),
        ("a@[FE80::1]", "a@[fe80::1]"),
        ("alice@example.org/home ", "alice@example.org/home "),
        ("o'neil\\27@example.org".replace("'", ""), "oneil\\27@example.org"),
    ],
)
def test_normalised_spelling(text: str, expected: str) -> None:
    assert jid.normalise(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "@",
        "/",
        "@example.org",
        "alice@",
        "alice@/home",
        "alice@example.org/",
        "a b@example.org",
        "a@b@example.org",
        "a@exa mple.org",
        "a@example..org",
        "a@-example.org",
        "a@example-.org",
        "a@example.org\n/home",
        "a@example\n.org",
        "a@example.org/ho\nme",
        "a\x00@example.org",
        "a@example.org/\x00",
        "a@example.org/\ud800",
        "a\ud800@example.org",
        "<a>@example.org",
        'a"b@example.org',
        "a@[::1",
        "a@[::x]",
        "a@[fe80::1%<x> y]",
        "a@" + "x" * 64,
        "x" * 1024 + "@example.org",
        "a@example.org/" + "x" * 1024,
        "é" * 512 + "@example.org",
        "a@" + ".".join(["x" * 60] * 5),
        "a@example.org..",
        "a@xn--a-.example",
        "\U0001f600@example.org",
        "a" + "\u00ad" * 5000 + "@example.org",
    ],
)
def test_invalid_jids(text: str) -> None:
    with pytest.raises(InvalidRequest):
        jid.normalise(text)


def test_the_longest_parts() -> None:
    local, resource = "x" * 1023, "é" * 511
    assert jid.normalise(f"{local}@example.org/{resource}") == f"{local}@example.org/{resource}"


usual = st.text(st.sampled_from("abyzABYZ0189.-_+~\\"), min_size=1, max_size=20)


@given(usual, st.from_regex(r"([a-zA-Z0-9]{1,9}\.){0,3}[a-z]{1,9}", fullmatch=True), usual)
def test_usual_jids_differ_only_in_case(local: str, domain: str, resource: str) -> None:
    assert jid.normalise(f"{local}@{domain}/{resource}") == f"{local.lower()}@{domain.lower()}/{resource}"


@given(st.text(max_size=30))
def test_any_text_has_one_spelling_or_is_refused(text: str) -> None:
    try:
        once = jid.normalise(text)
    except InvalidRequest:
        return
    assert jid.normalise(once) == once
    assert once.isprintable()
    assert jid.bare(text) == once.partition("/")[0]


@given(st.text(st.sampled_from("aA.@/-_é İßſ\u0301\u0130"), max_size=12))
def test_jid_like_text_has_one_spelling_or_is_refused(text: str) -> None:
    test_any_text_has_one_spelling_or_is_refused.hypothesis.inner_test(text)


def test_account_needs_a_local_part_and_no_resource() -> None:
    assert jid.account("Alice@Example.org") == "alice@example.org"
    for text in ("example.org", "alice@example.org/home"):
        with pytest.raises(InvalidRequest, match="bare JID"):
            jid.account(text)
    assert jid.bare("alice@example.org/home") == "alice@example.org"
