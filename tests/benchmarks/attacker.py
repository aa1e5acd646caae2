"""A hostile service in a process of its own, which reads the server as JSON from stdin, and then what to do.

It answers each line by one of its own: when it is connected, when an attack has begun, when a flood has ended.
"""

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import django

from tests.benchmarks.servers import RunningServer

if TYPE_CHECKING:
    from tests.adversary.component import HostileService

NODES = [f"urn:xmpp:microblog:0:attack/{number}" for number in range(5)]


async def attack(service: "HostileService", name: str) -> asyncio.Task[None] | None:
    """Begin the attack `name`; return the task that goes on with it, if there is one."""
    from tests.adversary.component import entry

    service.silent, service.endless_items, service.payloads = False, "", True
    if name == "silent":
        service.silent, service.payloads = True, False
        for node in NODES:
            service.publish(node, "new", entry("New"))
    elif name == "endless":
        service.endless_items = "news"
    elif name == "flood":
        return asyncio.create_task(service.flood(NODES, 1_000_000))
    return None


async def main() -> None:
    """Attack as told until there is nothing more to read."""
    from tests.adversary.component import HostileService

    described = json.loads(sys.stdin.readline())
    server = RunningServer(**{**described, "ca_file": Path(described["ca_file"])})
    async with HostileService(server) as service:  # type: ignore[arg-type]
        for node in NODES:
            service.add_node(node, items=20)
        print("connected", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            going_on = await attack(service, line.strip())
            print("begun", flush=True)
            if going_on is not None:
                await asyncio.to_thread(sys.stdin.readline)  # the end of this attack
                going_on.cancel()
                with suppress(asyncio.CancelledError):
                    await going_on
                print("ended", flush=True)


if __name__ == "__main__":
    django.setup()
    asyncio.run(main())
