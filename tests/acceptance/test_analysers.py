"""Test that examples of every built-in analyser, published on real services, are parsed as documented."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from pubsubcache.analysers import registry
from pubsubcache.exceptions import ItemNotFound
from pubsubcache.models import PubsubItem, PubsubNode
from pubsubcache.store import in_thread
from pubsubcache.store.nodes import set_policy
from pubsubcache.types import Item, NodeAddress
from tests.acceptance.site import Site, cached_node, entry, make_node, new_name
from tests.examples import EXAMPLES, Example

OWNERS = ["alice", "bob"]
OPEN_NODE = {"pubsub#access_model": "open", "pubsub#persist_items": "1", "pubsub#max_items": "10"}
# Keys that depend on the publisher, which the service adds, by analyser.
AUTHORSHIP = {
    "attachments": {"jid", "jid_verified"},
    "microblog": {"author", "author_jid", "author_jid_verified", "by"},
}
Place = tuple[str, NodeAddress]


def places(site: Site) -> list[tuple[Place, list[Example]]]:
    """Return the owners and addresses of nodes, each with examples that have different item ids.

    An analyser that matches by name alone is for PEP nodes, alternately alice's and bob's. Nodes of the service are
    bob's.
    """
    found: dict[tuple[Place, int], list[Example]] = {}
    taken: Counter[tuple[str, str | None]] = Counter()
    for example in EXAMPLES:
        key = (example.node, example.item.get("id"))
        number, taken[key] = taken[key], taken[key] + 1
        analyser = registry.get(example.analyser)
        assert analyser is not None
        is_personal = analyser.namespace is None and analyser.name != "tickets"
        owner = OWNERS[number % 2] if is_personal else "bob"
        service = site.server.jid(owner) if is_personal else site.server.pubsub
        found.setdefault(((owner, NodeAddress(service, example.node)), number), []).append(example)
    assert sum(map(len, found.values())) == len(EXAMPLES)
    return [(place, examples) for (place, _), examples in found.items()]


@asynccontextmanager
async def published(session: Any, address: NodeAddress, examples: list[Example]) -> AsyncIterator[None]:
    """Create a node with only the items of these examples, and delete it after the block."""
    with suppress(ItemNotFound):  # PEP nodes have fixed names, so another test may have left one
        await session.delete_node(address)
    await session.create_node(address, OPEN_NODE)
    try:
        for example in examples:
            await session.publish(address, example.item[0], example.item.get("id"))
        yield
    finally:
        await session.delete_node(address)


@in_thread
def keep(site: Site, address: NodeAddress) -> None:
    """Set the policy of a node to always cache it, as staff do."""
    nodes = PubsubNode.objects.filter(account__jid=site.jid, service=address.service, name=address.name)
    assert set_policy(nodes, PubsubNode.Policy.ALWAYS) == 1


def comparable(analyser: str, parsed: Any) -> Any:
    left_out = AUTHORSHIP.get(analyser, set())
    if isinstance(parsed, dict):
        return {key: comparable(analyser, value) for key, value in parsed.items() if key not in left_out}
    return [comparable(analyser, value) for value in parsed] if isinstance(parsed, list) else parsed


def differences(items: list[Item], examples: list[Example], service: str) -> list[str]:
    parsed = {item.id: item.parsed for item in items}
    return [
        f"{example.name}: {difference}"
        for example in examples
        for difference in changes(
            comparable(example.analyser, parsed.get(example.item.get("id", ""))),
            comparable(example.analyser, example.parsed(service)),
        )
    ]


def changes(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Yield the paths in JSON data with values that are not as expected."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            yield from changes(found.get(key), expected.get(key), f"{path}/{key}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from changes(one, other, f"{path}/{number}")
    elif found != expected:
        yield f"{path} is {found!r}, not {expected!r}"


async def wrong_answers(site: Site, address: NodeAddress, examples: list[Example]) -> list[str]:
    """Return what differs from the documentation when read from the service and then from the synchronised cache."""
    wrong = differences((await site.read(address)).items, examples, address.service)
    node, analyser = await site.node(address), registry.get(examples[0].analyser)
    assert node is not None
    assert analyser is not None
    assert (node.analyser, node.type) == (analyser.name, analyser.type)
    if node.sync_state == PubsubNode.SyncState.NO_SYNC:
        await keep(site, address)
    return wrong + differences((await site.cached(address)).items, examples, address.service)


async def wrong_notifications(site: Site, session: Any, address: NodeAddress, examples: list[Example]) -> list[str]:
    """Return what differs from the documentation when the items come in as notifications."""
    for example in examples:
        await session.retract(address, example.item.get("id"))

    async def has(number: int) -> bool:
        return len(await site.items(address)) == number

    await site.until(lambda: has(0))
    for example in examples:
        await session.publish(address, example.item[0], example.item.get("id"))
    await site.until(lambda: has(len(examples)))
    return differences([item.as_item() for item in await site.items(address)], examples, address.service)


async def test_examples_become_the_documented_json(site: Site, client) -> None:
    sessions = {owner: await client(site.server, owner) for owner in OWNERS}
    wrong = []
    nodes = places(site)
    for (owner, address), examples in nodes:
        async with published(sessions[owner], address, examples):
            wrong += await wrong_answers(site, address, examples)
            wrong += await wrong_notifications(site, sessions[owner], address, examples)
    assert len(nodes) > 30
    assert wrong == []


async def test_notified_edit_is_parsed(site: Site, client) -> None:
    """A notification has another namespace, and a node may mix encrypted and plain items."""
    alice = await client(site.server, "alice")
    address = NodeAddress(site.jid, "urn:xmpp:microblog:0")
    plain, secret = (
        next(example for example in EXAMPLES if example.name == name) for name in ("microblog", "microblog.encrypted")
    )

    async def parsed() -> Any:
        return {item.name: item.parsed for item in await site.items(address)}.get("for-otto")

    async with published(alice, address, [plain]):
        await site.cached(address)
        await alice.publish(address, secret.item[0], "for-otto")
        assert await site.until(parsed) == secret.parsed()
        assert [item.parse_error for item in await site.items(address)] == ["", ""]
        await site.converged(address)


async def test_gallery_is_recognised_by_the_metadata_of_its_node(site: Site, client) -> None:
    """XEP-0472, 5.3."""
    bob = await client(site.server)
    gallery = "urn:xmpp:pubsub-social-feed:gallery:1"
    address = await make_node(bob, site.server, new_name("pictures/"), **{"pubsub#type": gallery})
    example = next(example for example in EXAMPLES if example.name == "microblog.gallery")
    await bob.publish(address, example.item[0], "dawn")
    page = await site.cached(address)
    assert len(page.items[0].parsed["extra"]["pictures"]) == 2
    node = await site.in_sync(address)
    assert (node.type, node.extra["payload_type"]) == ("blog", gallery)


@pytest.mark.parametrize("name", ["mood", "geoloc"])
async def test_personal_data_is_not_cached(site: Site, client, name: str) -> None:
    alice = await client(site.server, "alice")
    example = next(example for example in EXAMPLES if example.name == name)
    address = NodeAddress(site.jid, example.node)
    async with published(alice, address, [example]):
        for _ in range(2):
            page = await site.read(address)
            assert (page.origin, page.items[0].parsed) == ("service", example.parsed())
        assert await site.items(address) == []


@in_thread
def spoil(address: NodeAddress) -> None:
    """Have the items of a node look as if an older parser had parsed them."""
    PubsubItem.objects.filter(node__service=address.service, node__name=address.name).update(parsed={"title": "old"})


@pytest.mark.both_databases
async def test_items_are_parsed_again_while_a_worker_stores_them(site: Site, client, manage: Any) -> None:
    bob = await client(site.server)
    address = await cached_node(site, bob, 250)
    await spoil(address)
    command = asyncio.ensure_future(asyncio.to_thread(manage, "pubsub_reparse", "-O", "json"))
    number = 0
    while not command.done():
        number += 1
        await bob.publish(address, entry(f"Edit {number}"), f"item-{number * 7 % 250}")
        await bob.publish(address, entry(f"New {number}"), f"new-{number}")
        if number > 5:
            await bob.retract(address, f"new-{number - 5}")
    ended = await command
    assert ended.returncode == 0, ended.stderr
    outcome = json.loads(ended.stdout)
    assert outcome["errors"] == 0
    assert 0 < outcome["changed"] <= outcome["items"]
    await site.converged(address)
    items = await site.items(address)
    assert f"New {number}" in {item.parsed["title"] for item in items}
    for item in items:
        assert f"<title>{item.parsed['title']}</title>" in item.data, item.name
