"""Test answers of workers: put together from pieces, and refused in any other shape."""

import json
from typing import Any

import pytest
from django.test import override_settings

from pubsubcache.exceptions import InvalidRequest, ItemNotFound, ServiceError, ServiceUnreachable, TooLarge
from pubsubcache.services import remote
from pubsubcache.types import Item, ItemsRequest, Rsm, ServicePage


def pieces(text: str, size: int = 3) -> list[dict[str, Any]]:
    cut = [text[start : start + size] for start in range(0, len(text), size)]
    return [{"type": "pubsub.answer", "number": n, "of": len(cut), "body": body} for n, body in enumerate(cut)]


class Scripted:
    """A layer that returns messages one by one."""

    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages

    async def receive(self, channel: str) -> Any:
        return self.messages.pop(0)


async def test_pieces_of_an_answer_may_arrive_in_any_order_and_twice() -> None:
    text = json.dumps({"result": ["one", "two"]})
    shuffled = [*reversed(pieces(text)), *pieces(text)]
    shuffled.insert(1, shuffled[0])
    shuffled.insert(1, {"type": "pubsub.answer", "number": 9, "of": 3, "body": "x"})
    shuffled.insert(1, {"type": "pubsub.answer", "body": text, "last": True})
    assert await remote.RemoteService._receive(Scripted(shuffled), "reply") == text


async def test_answer_without_end_is_refused() -> None:
    endless = [{"type": "pubsub.answer", "number": n, "of": 10**9, "body": "x" * 100} for n in range(100)]
    with override_settings(PUBSUBCACHE_MAX_STANZA_SIZE=1000), pytest.raises(TooLarge):
        await remote.RemoteService._receive(Scripted(endless), "reply")


@pytest.mark.parametrize(
    "answer",
    [
        "", "7", "[]", "{}", "[" * 100_000,
        '{"result": null}', '{"result": []}', '{"result": {"items": {}, "rsm": null}}',
        '{"result": {"items": [["a", "b"]], "rsm": null}}',
        '{"result": {"items": [[1, "b", null]], "rsm": null}}',
        '{"result": {"items": [["a", null, null]], "rsm": null}}',
        '{"result": {"items": ["abc", "def"], "rsm": 5}}',
        '{"result": {"items": [], "rsm": {"max": "3"}}}', '{"result": {"items": []}}',
        '{"result": {"items": [], "rsm": null, "left_out": {"a": 1}}}', '{"result": 1e999}', '"\\ud800"',
        '{"result": {"items": [' + "[" * 100_000,
        '{"new": ' + "[" * 100_000, '{"result": "\ud800"}',
        '{"result": {"items": [], "rsm": {"first": 1, "last": 2, "after": 0, "before": 0, "index": "x"}}}',
        '{"error": "service_error", "arguments": ["item-not-found", ""]}',
        '{"error": "__builtins__", "arguments": ["x"]}',
        '{"error": "annotations", "arguments": []}',
        '{"error": ["ItemNotFound"], "arguments": []}',
        '{"error": "ItemNotFound"}', '{"error": "ItemNotFound", "arguments": [1]}',
        '{"error": "ItemNotFound", "arguments": "ab", "result": null}',
        '{"error": "ServiceError", "arguments": ["a", "b", "c"]}', '{"error": "ServiceError", "arguments": []}',
    ],
)  # fmt: skip
def test_malformed_answer_means_that_the_worker_is_unreachable(answer: str) -> None:
    with pytest.raises(ServiceUnreachable):
        remote.decode_answer(answer, remote.Page)


def test_invalid_field_is_reported() -> None:
    with pytest.raises(ServiceUnreachable, match=r"Expected `str`, got `int` - at `\$\.items\[0\]\[1\]`"):
        remote.decode_answer('{"result": {"items": [["a", 1, null]], "rsm": null}}', remote.Page)
    with pytest.raises(InvalidRequest, match=r"Expected `int \| null`, got `str` - at `\$\.max_items`"):
        remote.decode_request('{"item_ids": null, "max_items": "7", "order_by": null, "rsm": null}')
    with pytest.raises(InvalidRequest, match=r"cannot be combined with max_items or result set management\.$"):
        remote.decode_request('{"item_ids": ["a"], "max_items": 7}')


def test_messages_of_other_versions_are_read() -> None:
    """An older version lacks some keys, and a newer one has more."""
    rsm = '{"first": "a", "last": "a", "index": 0, "count": 1, "max": null, "after": null, "before": null}'
    older = remote.decode_answer(f'{{"result": {{"items": [["a", "<item/>", null]], "rsm": {rsm}}}}}', remote.Page)
    assert older.opened() == ServicePage(
        items=[Item(id="a", xml="<item/>")], rsm=Rsm(first="a", last="a", index=0, count=1)
    )
    newer = remote.decode_request(
        '{"item_ids": null, "max_items": 3, "order_by": null, "rsm": {"max": 2, "new": {}}, "new": []}'
    )
    assert newer == ItemsRequest(max_items=3, rsm=Rsm(max=2))


@pytest.mark.parametrize("error", [ItemNotFound("gone", "away"), ServiceError("x", "y"), ServiceUnreachable("no")])
def test_errors_are_restored(error: Any) -> None:
    with pytest.raises(type(error)) as caught:
        remote.decode_answer(remote.encode_error(error), remote.Page)
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
