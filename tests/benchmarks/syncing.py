"""A whole node: synchronised, and downloaded with nothing stored."""

import statistics
import time

from pubsubcache.models import PubsubNode
from pubsubcache.services.pager import Listing
from pubsubcache.store import nodes
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.types import NodeAddress
from pubsubcache.xmpp.session import Session, open_session
from tests.benchmarks.plan import Figure, Plan, at_least
from tests.benchmarks.servers import RunningServer
from tests.benchmarks.world import filled, in_database, site_of


async def measure(servers: dict[str, RunningServer], plan: Plan) -> list[Figure]:
    """Measure on ejabberd, in turn, and take the medians."""
    server = servers["ejabberd"]
    site = site_of(server)
    await site.add_account()
    address = await filled(server, plan.synced)
    times: dict[str, list[float]] = {"download": [], "first": [], "again": []}
    async with open_session(server.login("alice")) as session:
        await _download(session, address)
        for _ in range(plan.rounds):
            times["download"].append(await _download(session, address))
            await in_database(_forget, site.jid, address)
            node = await in_database(lambda: nodes.get_or_create_node(site.jid, address, by_hand=True))
            for kind in ("first", "again"):
                began = time.perf_counter()
                result = await sync_node(session, node.pk)
                times[kind].append(time.perf_counter() - began)
                assert (result.items, result.added) == (plan.synced, plan.synced if kind == "first" else 0)
    speeds = {kind: plan.synced / statistics.median(taken) for kind, taken in times.items()}
    place = f"ejabberd, {plan.synced} items"
    return [
        Figure("sync", f"{place}: download, nothing stored", speeds["download"], "items/s"),
        Figure("sync", f"{place}: first synchronisation", speeds["first"], "items/s"),
        Figure("sync", f"{place}: synchronised again, nothing new", speeds["again"], "items/s"),
        at_least("sync", f"{place}: first against the download", speeds["first"] / speeds["download"], 0.5, "x"),
        Figure("sync", f"{place}: again against the download", speeds["again"] / speeds["download"], "x"),
    ]


async def _download(session: Session, address: NodeAddress) -> float:
    began = time.perf_counter()
    listing = Listing(session, address)
    async for _ in listing.pages():
        pass
    return time.perf_counter() - began


def _forget(jid: str, address: NodeAddress) -> None:
    PubsubNode.objects.filter(account__jid=jid, service=address.service, name=address.name).delete()
