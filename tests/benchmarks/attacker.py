"""A pubsub service in a separate process, good or hostile as requested.

The first line of stdin is JSON: the server, the service's name and its nodes. Each line after it is an order, which is
answered by a line once it is carried out: `calm`, `silent`, `endless`, `flood JID` or `publish NODE ITEM`.
"""

import asyncio
import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import django

from tests.benchmarks.servers import running

if TYPE_CHECKING:
    from tests.adversary.component import HostileService

NODES = [f"urn:xmpp:microblog:0:attack/{number}" for number in range(5)]


class Actor:
    """Carries out the orders to one service."""

    def __init__(self, service: "HostileService") -> None:
        self._service = service
        self._flood: asyncio.Task[None] | None = None

    async def obey(self, order: str, *arguments: str) -> None:
        """Carry out an order; a flood goes on until the next one."""
        from tests.adversary.component import entry

        service = self._service
        if order == "publish":
            node, item = arguments
            service.publish(node, item, entry(item))
            return
        await self._end_flood()
        service.silent, service.endless_items, service.payloads = False, "", True
        if order == "silent":
            service.silent, service.payloads = True, False
            for node in service.nodes:
                service.publish(node, "new", entry("New"))
        elif order == "endless":
            service.endless_items = "news"
        elif order == "flood":
            self._flood = asyncio.create_task(service.flood(list(service.nodes), 1_000_000, to=arguments))

    async def _end_flood(self) -> None:
        if self._flood is not None:
            self._flood.cancel()
            with suppress(asyncio.CancelledError):
                await self._flood
            self._flood = None


async def main() -> None:
    """Obey until there is nothing more to read."""
    from tests.adversary.component import HostileService

    told = json.loads(sys.stdin.readline())
    async with HostileService(running(told["server"]), told["name"]) as service:  # type: ignore[arg-type]
        for node in told["nodes"]:
            service.add_node(node, items=20)
        actor = Actor(service)
        print("connected", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await actor.obey(*line.split())
            print("done", flush=True)


if __name__ == "__main__":
    django.setup()
    asyncio.run(main())
