"""Test descriptions of signatures (XEP-0475, XEP-0476)."""

from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from pubsubcache.parsers.shapes import rest_of
from pubsubcache.parsers.signatures import OPENPGP_PROFILE, SIGNATURE, SIGNING, signature


def described(inner: str, attributes: str = "") -> tuple[Any, list[tuple[str, dict[str, str], str | None]]]:
    item = fromstring(f"<item><signature xmlns='{SIGNING}' {attributes}>{inner}</signature></item>")
    rest = rest_of(item, (SIGNATURE,))["rest"]
    return signature(item[0]), [(one["name"], one["attributes"], one["text"]) for one in rest]


def test_a_signature_with_openpgp() -> None:
    inner = (
        "<time stamp='2026-03-01T08:39:03+01:00'/><signer> mira@garden.example </signer>"
        f"<sign xmlns='{OPENPGP_PROFILE}'>c2lnbmF0dXJl</sign>"
    )
    found, rest = described(inner, "timestamp='2026-03-01T07:39:04Z'")
    assert found == {
        "signed_at": "2026-03-01T07:39:03Z",
        "timestamp": "2026-03-01T07:39:04Z",
        "signers": ["mira@garden.example"],
        "recipients": [],
        "profiles": [{"namespace": OPENPGP_PROFILE, "name": "sign"}],
    }
    assert rest == []


def test_signers_as_text_and_as_attributes() -> None:
    """The text of XEP-0475 has an attribute, its examples have text."""
    signers = "<signer>a@b.example</signer><signer jid='C@d.example'/><signer jid='a@b.example'>e@f.example</signer>"
    found, rest = described(f"<to jid='g@h.example'/>{signers}")
    assert found["signers"] == ["a@b.example", "c@d.example", "e@f.example"]
    assert found["recipients"] == ["g@h.example"]
    assert (found["signed_at"], found["timestamp"], found["profiles"], rest) == (None, None, [], [])


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<time stamp='soon'/>", ("time", {"stamp": "soon"}, None)),
        ("<time/><time stamp='2026-03-01'/>", ("time", {"stamp": "2026-03-01"}, None)),
        ("<signer>two words</signer>", ("signer", {}, "two words")),
        ("<signer jid='a@b.example/c'/>", ("signer", {"jid": "a@b.example/c"}, None)),
        ("<to jid='a b'/>", ("to", {"jid": "a b"}, None)),
        ("<seal xmlns='urn:wax' colour='red'>M</seal>", ("seal", {"colour": "red"}, "M")),
    ],
)
def test_what_is_unreadable_is_returned(inner: str, expected: tuple[str, dict[str, str], str | None]) -> None:
    found, rest = described(inner)
    assert rest == [expected]
    assert found["signed_at"] is None


def test_other_profiles_are_named() -> None:
    found, _ = described("<seal xmlns='urn:wax'/>")
    assert found["profiles"] == [{"namespace": "urn:wax", "name": "seal"}]
