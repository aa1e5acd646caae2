"""Test the slixmpp plug-in without a server."""

import asyncio
import inspect
from typing import Any

import pytest
from slixmpp import JID, ClientXMPP, ComponentXMPP, Iq
from slixmpp.exceptions import IqError, IqTimeout

from pubsubcache.exceptions import ItemNotFound, ServiceUnreachable, TooLarge
from pubsubcache.types import Item, ItemsPage, ItemsRequest, NodeAddress, Rsm
from pubsubcache.xmpp import plugin
from pubsubcache.xmpp.plugin.service import ClientService
from tests.fakes import make_item

SERVICE, NODE = "pubsub.example.org", "urn:example:notes"


class StoredPages:
    """Fake cache that returns or raises its answers one by one."""

    def __init__(self, *answers: ItemsPage | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[NodeAddress, ItemsRequest]] = []

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ItemsPage:
        self.requests.append((address, request))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def written(self, address: NodeAddress, names: list[str] | None) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


def page(*names: str, last: str | None = "", complete: bool = False) -> ItemsPage:
    """Return a page of a node with three items."""
    items: list[Item] = [make_item(name) for name in names]
    first = names[0] if names else None
    cursor = (names[-1] if names else None) if last == "" else last
    return ItemsPage(items=items, rsm=Rsm(first=first, last=cursor, index=0, count=3), complete=complete)


@pytest.fixture
async def client() -> ClientXMPP:
    """A client that never goes online."""
    client = ClientXMPP("alice@example.org/desk", "secret")
    client.register_plugin("xep_0060")
    return client


def cached(client: ClientXMPP, *answers: ItemsPage | Exception) -> StoredPages:
    """Register the plug-in with a fake cache that returns `answers`."""
    client.register_plugin("pubsub_cache", {"account": "alice@example.org"}, module="pubsubcache.xmpp.plugin")
    stored = StoredPages(*answers)
    client.plugin["pubsub_cache"]._cache = stored
    return stored


def ids(iq: Iq) -> list[str]:
    return [item["id"] for item in iq["pubsub"]["items"]]


async def test_methods_are_restored(client: ClientXMPP) -> None:
    pubsub: Any = client.plugin["xep_0060"]
    before = {name: getattr(pubsub, name) for name in plugin.READS + plugin.WRITES}
    cached(client)
    for name, method in before.items():
        assert getattr(pubsub, name) != method
        assert inspect.signature(getattr(pubsub, name)) == inspect.signature(method)
    client.plugin.disable("pubsub_cache")
    assert {name: getattr(pubsub, name) for name in before} == before


async def test_only_the_own_account_can_be_registered(client: ClientXMPP) -> None:
    with pytest.raises(ValueError, match=r"alice@example\.org cannot use the cache of bob@example\.org"):
        client.register_plugin("pubsub_cache", {"account": "bob@example.org"})
    component = ComponentXMPP("gateway.example.org", "secret", "127.0.0.1", 1)
    with pytest.raises(ValueError, match="Only clients"):
        component.register_plugin("pubsub_cache", {"account": "alice@example.org"})


async def test_own_account_is_the_default(client: ClientXMPP) -> None:
    client.register_plugin("pubsub_cache")
    assert client.plugin["pubsub_cache"]._account == "alice@example.org"


async def test_a_request_and_its_answer(client: ClientXMPP) -> None:
    stored = cached(client, page("a", "b"), page("c"))
    answer = await client.plugin["xep_0060"].get_items(JID(SERVICE), NODE, max_items=2)
    assert (answer["type"], answer["from"], answer["to"]) == ("result", SERVICE, "alice@example.org/desk")
    assert (answer["pubsub"]["items"]["node"], ids(answer)) == (NODE, ["a", "b"])
    answer = await client.plugin["xep_0060"].get_item(None, NODE, "c")
    assert (answer["from"], ids(answer)) == ("alice@example.org", ["c"])
    assert stored.requests == [
        (NodeAddress(SERVICE, NODE), ItemsRequest(max_items=2)),
        (NodeAddress("alice@example.org", NODE), ItemsRequest(item_ids=("c",))),
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"ifrom": "bob@example.org"},
        {"ifrom": "alice@example.org/phone"},
        {"jid": "bob@example.org/phone"},
        {"jid": "@@"},
        {"node": ""},
        {"node": None},
        {"max_items": 0},
        {"max_items": "3"},
        {"max_items": 2, "item_ids": ["a"]},
        {"item_ids": [3]},
    ],
)
async def test_calls_that_the_cache_does_not_answer(client: ClientXMPP, options: dict[str, Any]) -> None:
    pubsub: Any = client.plugin["xep_0060"]
    asked: list[tuple[Any, ...]] = []
    pubsub.get_items = lambda *args, **kwargs: asked.append((*args, *kwargs.values()))
    stored = cached(client, page("a"))
    pubsub.get_items(**{"jid": SERVICE, "node": NODE, **options})
    assert len(asked) == 1
    assert stored.requests == []


@pytest.mark.parametrize("problem", [ServiceUnreachable("offline"), TooLarge("too large")])
async def test_errors_of_the_cache_fall_back_to_slixmpp(client: ClientXMPP, problem: Exception) -> None:
    pubsub: Any = client.plugin["xep_0060"]
    answer = client.Iq()

    async def original(*args: Any, **kwargs: Any) -> Iq:
        return answer

    pubsub.get_items = original
    cached(client, problem)
    assert await pubsub.get_items(SERVICE, NODE) is answer


async def test_errors(client: ClientXMPP) -> None:
    timeout = IqTimeout(client.Iq())
    unreachable = ServiceUnreachable("no answer in time")
    unreachable.__cause__ = timeout
    cached(client, ItemNotFound(text="no such node"), unreachable)
    called: list[Iq] = []
    with pytest.raises(IqError) as caught:
        await client.plugin["xep_0060"].get_items(SERVICE, NODE, callback=called.append)
    error = caught.value
    assert (error.condition, error.text, error.etype) == ("item-not-found", "no such node", "cancel")
    assert (error.iq["type"], error.iq["from"], called) == ("error", SERVICE, [error.iq])
    with pytest.raises(IqTimeout) as late:
        await client.plugin["xep_0060"].get_items(SERVICE, NODE, callback=called.append)
    assert late.value is timeout
    assert len(called) == 1


async def test_failing_callback_does_not_affect_the_answer(client: ClientXMPP) -> None:
    def fail(iq: Iq) -> None:
        raise LookupError

    cached(client, page("a"))
    assert ids(await client.plugin["xep_0060"].get_items(SERVICE, NODE, callback=fail)) == ["a"]


def _walk(client: ClientXMPP) -> Any:
    return client.plugin["xep_0060"].get_items(SERVICE, NODE, iterator=True)


async def test_walk_continues_from_cursors(client: ClientXMPP) -> None:
    stored = cached(client, page("a", "b", last="cursor"), page("c", complete=True))
    answers = [answer async for answer in _walk(client)]
    assert [ids(answer) for answer in answers] == [["a", "b"], ["c"]]
    assert [request.rsm for _, request in stored.requests] == [Rsm(max=10), Rsm(max=10, after="cursor")]
    assert (answers[0]["pubsub"]["rsm"]["last"], answers[0]["pubsub"]["rsm"]["first_index"]) == ("cursor", "0")


async def test_repeated_cursor_ends_the_iteration(client: ClientXMPP) -> None:
    stored = cached(client, *[page("a", "b", last="same")] * 10)
    async with asyncio.timeout(60):
        assert len([answer async for answer in _walk(client)]) == 2
    assert len(stored.requests) == 2


async def test_failed_walk_raises_and_can_continue(client: ClientXMPP) -> None:
    cached(client, page("a", last="cursor"), ServiceUnreachable("offline"), page("b", complete=True))
    walk = _walk(client)
    assert ids(await walk.next()) == ["a"]
    with pytest.raises(IqTimeout):
        await walk.next()
    assert ids(await walk.next()) == ["b"]
    with pytest.raises(StopAsyncIteration):
        await walk.next()


async def test_iteration_over_an_empty_node(client: ClientXMPP) -> None:
    cached(client, page(complete=True))
    assert [answer async for answer in _walk(client)] == []


async def test_requests_without_a_session_fail_at_once(client: ClientXMPP) -> None:
    service = ClientService(client)
    with pytest.raises(ServiceUnreachable):
        await service.get_items(NodeAddress(SERVICE, NODE), ItemsRequest())
    assert client.waiting_queue.empty()


async def test_a_lost_session_ends_the_wait(client: ClientXMPP) -> None:
    service = ClientService(client)
    client.event("session_start")
    request = asyncio.create_task(service.get_items(NodeAddress(SERVICE, NODE), ItemsRequest()))
    await client.waiting_queue.get()
    client.connection_lost(None)
    with pytest.raises(ServiceUnreachable):
        await request
    assert not service.online
