"""Memory of a worker process that synchronises a large node: of this process, which does nothing else."""

import resource

from tests.benchmarks.plan import Figure, Plan
from tests.benchmarks.servers import RunningServer
from tests.benchmarks.world import filled, site_of


async def measure(servers: dict[str, RunningServer], plan: Plan) -> list[Figure]:
    """Measure on ejabberd: the peak before, and after a node of `plan.memory`'s only size was synchronised."""
    server = servers["ejabberd"]
    (count,) = plan.memory
    address = await filled(server, count)
    site = site_of(server)
    await site.add_account()
    async with site.working():
        idle = _peak()
        await site.read(address, max_items=1)
        node = await site.in_sync(address)
        peak = _peak()
    assert node.item_count == count
    title = f"ejabberd, {count} items: worker's peak"
    return [
        Figure("memory", f"{title} before", idle, "MiB"),
        Figure("memory", f"{title} after", peak, "MiB"),
        Figure("memory", f"{title}, after against before", peak / idle, "x"),
    ]


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
