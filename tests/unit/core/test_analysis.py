"""Test which items an analysis looks at, and when a node must be analysed again."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from pubsubcache.analysers import Analysis, register_analyser, registry
from pubsubcache.exceptions import ServiceError, ServiceUnreachable, TooLarge
from pubsubcache.models import PubsubNode
from pubsubcache.syncing.analysis import Finding, analyse, is_due, newest_items
from pubsubcache.types import Item, ItemsRequest
from tests.fakes import ADDRESS, FakeService, make_item

AVATAR = "urn:xmpp:avatar:metadata"
samples: list[Analysis] = []


@pytest.fixture(autouse=True)
def _analysers() -> Iterator[None]:
    samples.clear()
    with registry.temporarily(replace=True):
        register_analyser(name="named", type="t", node="urn:example:named")
        for kind in "ab":
            register_analyser(name=kind, type=kind, namespace=f"urn:{kind}", match_cb=samples.append)
        register_analyser(name="later", type="t", node="urn:example:later")
        yield


def items(kinds: str, start: int = 0) -> list[Item]:
    """Create items, one per letter: "-" is an avatar, "?" an item that is left out."""
    made = []
    for number, kind in enumerate(kinds, start):
        item = make_item(f"{kind}{number}", namespace=AVATAR if kind == "-" else f"urn:{kind}")
        made.append(Item(id=item.id, xml="", left_out="It is too large.") if kind == "?" else item)
    return made


def name(finding: Finding) -> str:
    return finding.analysis.name if finding.analysis else ""


class More:
    """Returns the newest items, and counts the requests."""

    def __init__(self, kinds: str = "") -> None:
        self.found = items(kinds, 100)
        self.count = 0

    async def __call__(self) -> Sequence[Item]:
        self.count += 1
        return self.found


@pytest.mark.parametrize(
    ("known", "more", "expected", "sample", "asked"),
    [
        ("aaa-", "", "a", "a2", 0),
        ("aaab", "bbbbb", "a", "a2", 0),
        ("abb", "", "b", "b2", 0),
        ("-", "aaa-", "a", "a102", 1),
        ("", "b", "b", "b100", 1),
        ("a?", "", "a", "a0", 0),
        ("?", "?a?", "a", "a101", 1),
        ("", "", "", None, 1),
        ("-", "?", "", None, 1),
        ("-", "x-", "", None, 1),
    ],
)
async def test_more_items_are_requested_only_if_none_prevails(
    known: str, more: str, expected: str, sample: str | None, asked: int
) -> None:
    ask = More(more)
    finding = await analyse(ADDRESS, items(known), ask)
    assert (name(finding), finding.error, finding.namespace) == (expected, "", f"urn:{expected}" if expected else "")
    assert [analysis.item.get("id") for analysis in samples if analysis.item is not None] == (
        [sample] if sample else []
    )
    assert ask.count == asked


async def test_known_items_suffice_if_no_more_can_be_requested() -> None:
    assert await analyse(ADDRESS, items("--")) == Finding(None, "", "")
    assert await analyse(ADDRESS) == Finding(None, "", "")


async def test_match_by_name_looks_at_no_item() -> None:
    ask = More("a")
    finding = await analyse(ADDRESS.__class__(ADDRESS.service, "urn:example:named/1"), items("b"), ask)
    assert (name(finding), finding.namespace, ask.count) == ("named", None, 0)


async def test_match_by_name_after_namespaces_gets_the_newest_item() -> None:
    finding = await analyse(ADDRESS.__class__(ADDRESS.service, "urn:example:later"), items("-x"))
    assert finding.analysis is not None
    assert finding.analysis.item is not None
    assert (name(finding), finding.namespace, finding.analysis.item.get("id")) == ("later", "", "x1")


async def test_only_the_newest_items_are_read() -> None:
    unread = [Item(id=f"i{number}", xml="<not read") for number in range(10_000)]
    newest = [make_item(f"n{number}", namespace=f"urn:kind:{number}") for number in range(19)]
    assert await analyse(ADDRESS, [*unread, *newest, *items("a")]) == Finding(samples[0], "", "urn:a")


async def test_failure_becomes_the_error_unless_it_passes() -> None:
    def fail(analysis: Analysis) -> None:
        raise ZeroDivisionError("no")

    register_analyser(name="c", type="t", namespace="urn:c", match_cb=fail)
    finding = await analyse(ADDRESS, items("c"))
    assert finding == Finding(None, "The analysis failed: ZeroDivisionError: no", "urn:c")
    with pytest.raises(ZeroDivisionError):
        await analyse(ADDRESS, items("c"), passing=(ZeroDivisionError,))


# The newest items


async def test_newest_items_take_one_request() -> None:
    service = FakeService()
    names = service.fill(30)
    assert [item.id for item in await newest_items(service, ADDRESS)] == names[-20:]
    assert service.requests == [("get_items", ItemsRequest(max_items=20))]


async def test_newest_items_are_oldest_first() -> None:
    service = FakeService(paging="opaque", newest_first=True, unrequested_set=True)
    names = service.fill(30)
    assert [item.id for item in await newest_items(service, ADDRESS)] == names[-20:]


@pytest.mark.parametrize("refusal", [ServiceError("resource-constraint"), TooLarge("too large")])
async def test_one_item_is_requested_if_more_are_too_large(refusal: Exception) -> None:
    service = FakeService(refuse_over=1, refusal=refusal)
    names = service.fill(30)
    assert [item.id for item in await newest_items(service, ADDRESS)] == names[-1:]
    assert len(service.requests) == 2


@pytest.mark.parametrize("error", [ServiceError("forbidden"), ServiceUnreachable("down")])
async def test_other_errors_are_raised(error: Exception) -> None:
    service = FakeService(errors={"get_items": error})
    service.fill(1)
    with pytest.raises(type(error)):
        await newest_items(service, ADDRESS)
    assert len(service.requests) == 1
    finding = await analyse(ADDRESS, more=partial(newest_items, service, ADDRESS))
    assert finding.error


# Again


def node(**fields: Any) -> PubsubNode:
    return PubsubNode(**({"registry_fingerprint": registry.fingerprint()} | fields))


@pytest.mark.parametrize(
    ("fields", "kinds", "few", "newest"),
    [
        ({"sample_namespace": ""}, "x", False, False),
        ({"sample_namespace": ""}, "", False, False),
        ({"sample_namespace": ""}, "xa", True, True),  # no analyser matched
        ({"sample_namespace": None}, "a", True, True),  # never looked at
        ({"analyser": "a", "sample_namespace": "urn:a"}, "a", False, False),
        ({"analyser": "a", "sample_namespace": "urn:a"}, "", False, False),
        ({"analyser": "a", "sample_namespace": "urn:a"}, "x", False, False),
        ({"analyser": "a", "sample_namespace": "urn:a"}, "ab", False, False),
        ({"analyser": "a", "sample_namespace": "urn:a"}, "abbbb", False, True),
        ({"analyser": "a", "sample_namespace": "urn:a"}, "b", False, True),
        ({"analyser": "later", "sample_namespace": ""}, "b", False, True),
        ({"analyser": "named", "sample_namespace": None}, "b", False, False),  # by its name
        ({"registry_fingerprint": "", "sample_namespace": "urn:a"}, "b", False, False),  # the analysis failed
        ({"registry_fingerprint": "", "sample_namespace": None}, "a", False, False),
    ],
)
def test_when_analysis_is_due(fields: dict[str, Any], kinds: str, few: bool, newest: bool) -> None:
    namespaces = [f"urn:{kind}" for kind in kinds]
    assert is_due(node(**fields), namespaces, newest=False) is few
    assert is_due(node(**fields), namespaces, newest=True) is newest
