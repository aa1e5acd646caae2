"""Test that texts of services are cleaned and bounded in logs and rows."""

from collections.abc import Awaitable, Callable

import pytest

from pubsubcache.models import PubsubNode
from pubsubcache.store import in_thread, nodes
from tests.acceptance.site import Site
from tests.adversary import process
from tests.adversary.component import HostileService, Refusal, Request, entry
from tests.adversary.conftest import MakeHostile, StartWorker

FORGED = "2026-01-01 00:00:00,000 ERROR pubsubcache: all is lost"
CONTROL = "\x85\x9b\u2028\u2029\u202e"  # allowed in XML, and interpreted by terminals
TEXTS = {"lines": f"no\n{FORGED}\r\n{CONTROL}{FORGED}\n", "megabyte": "x" * 1_000_000}
METHODS = ("subscribe", "get_items", "get_item_ids", "unsubscribe")
MAX_LOG = 100_000
MAX_ERROR = 2000


@pytest.mark.parametrize("name", TEXTS)
async def test_error_texts_of_a_service_cannot_forge_lines_or_fill_the_log(
    idle_site: Site, hostile: MakeHostile, worker: StartWorker, name: str
) -> None:
    site, service = idle_site, await hostile(idle_site.server)
    nodes_by_method = {method: service.add_node(items=2) for method in METHODS}

    def refuse(request: Request) -> str:
        if nodes_by_method[request.method].name == request.node:
            raise Refusal("internal-server-error", TEXTS[name])
        return service.honest_answer(request)

    service.answers = dict.fromkeys(METHODS, refuse)
    started = await worker(site, LOG_LEVEL="DEBUG")
    for address in nodes_by_method.values():
        await in_thread(nodes.get_or_create_node)(site.jid, address, by_hand=True)
    followed = await site.in_sync(nodes_by_method["unsubscribe"])
    await in_thread(lambda: nodes.forget_nodes(PubsubNode.objects.filter(pk=followed.pk), unsubscribe=True))()
    for method, address in nodes_by_method.items():
        await site.until(_asked(service, method, address.name))
    await service.ping(service.session_of(site.jid))
    rows = [await site.node(address) for address in nodes_by_method.values()]
    await in_thread(started.stop)()
    written = process.log(started)
    assert "internal-server-error" in written
    assert len(written) < MAX_LOG
    assert not [line for line in written.split("\n") if line.startswith(FORGED)]
    assert not set(CONTROL) & set(written)
    for node in rows:
        if node is not None:
            assert len(node.sync_error) <= MAX_ERROR
            assert not set(CONTROL + "\n\r") & set(node.sync_error)


def _asked(service: HostileService, method: str, node: str) -> Callable[[], Awaitable[bool]]:
    async def condition() -> bool:
        return service.asked(method, node) > 0

    return condition


async def test_names_in_notifications_cannot_forge_lines(
    idle_site: Site, hostile: MakeHostile, worker: StartWorker
) -> None:
    site, service = idle_site, await hostile(idle_site.server)
    address = service.add_node(f"urn:xmpp:microblog:0:tests/{CONTROL}{FORGED}", 2)
    started = await worker(site, LOG_LEVEL="DEBUG")
    await in_thread(nodes.get_or_create_node)(site.jid, address, by_hand=True)
    await site.in_sync(address)
    service.publish(address.name, f"id{CONTROL}{FORGED}", entry("New"))
    await site.converged(address)
    await in_thread(started.stop)()
    written = process.log(started)
    assert not [line for line in written.split("\n") if line.startswith(FORGED)]
    assert not set(CONTROL) & set(written)
