"""Test the validation of requests."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.types import Item, ItemsRequest, NodeAddress, Rsm
from tests.fakes import make_item


@pytest.mark.parametrize(
    "options",
    [
        {"item_ids": "abc"},
        {"item_ids": [1]},
        {"item_ids": ["a", None]},
        {"item_ids": ["a\0"]},
        {"item_ids": ["\ud800"]},
        {"item_ids": 5},
        {"max_items": 0},
        {"max_items": -1},
        {"max_items": True},
        {"max_items": "5"},
        {"max_items": 1.5},
        {"max_items": 2**63},
        {"item_ids": ["a"], "max_items": 1},
        {"item_ids": ["a"], "rsm": {"max": 1}},
        {"rsm": {"max": -1}},
        {"rsm": {"max": True}},
        {"rsm": {"max": "1"}},
        {"rsm": {"max": 2**63}},
        {"rsm": {"index": -1}},
        {"rsm": {"index": 2**63}},
        {"rsm": {"index": 1, "after": "a"}},
        {"rsm": {"before": "", "after": ""}},
        {"rsm": {"after": 5}},
        {"rsm": {"before": b"x"}},
        {"rsm": {"after": "a\0"}},
        {"rsm": {"after": "\ud800"}},
        {"rsm": {"start": 1}},
        {"rsm": {1: 2}},
        {"rsm": "abc"},
        {"rsm": 5},
        {"rsm": ["max"]},
        {"order_by": "date"},
        {"order_by": []},
    ],
)
def test_invalid_requests(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        ItemsRequest(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"item_ids": []},
        {"max_items": 1},
        {"rsm": {}},
        {"rsm": {"max": 0}},
        {"rsm": {"before": ""}},
        {"rsm": {"max": 5, "after": "x"}},
        {"rsm": Rsm(index=0)},
        {"rsm": {"max": 2}, "order_by": "creation"},
        {"item_ids": ["a"], "order_by": "modification"},
        {"max_items": 5, "rsm": {"max": 2}},
    ],
)
def test_valid_requests(options: dict[str, Any]) -> None:
    ItemsRequest(**options)


def test_repeated_ids_are_requested_once() -> None:
    assert ItemsRequest(item_ids=["b", "a", "b"]).item_ids == ("b", "a")  # type: ignore[arg-type]
    assert ItemsRequest(item_ids=(name for name in "aba")).item_ids == ("a", "b")  # type: ignore[arg-type]


anything = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.text()), st.floats())


@given(anything, anything, anything, anything)
def test_any_input_is_a_request_or_raises_invalid_request(ids: Any, number: Any, rsm: Any, order: Any) -> None:
    try:
        ItemsRequest(item_ids=ids, max_items=number, rsm=rsm, order_by=order)
    except InvalidRequest:
        return


def test_items() -> None:
    item = make_item("a", "b", publisher="bob@example.org")
    assert item.payload is not None
    assert item.payload[0].text == "b"
    assert item.publisher == "bob@example.org"
    read = Item(id="a", xml=item.xml)
    assert read.payload is not None
    assert read.payload[0].text == "b"


def test_the_address_of_a_node() -> None:
    address = NodeAddress("alice@example.org", "urn:xmpp:microblog:0")
    assert address.uri == "xmpp:alice@example.org?;node=urn%3Axmpp%3Amicroblog%3A0"
