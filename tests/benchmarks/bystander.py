"""Another site, in a separate process with its own database, which is attacked instead of the measured site.

The first line of stdin is JSON: the server. Each line after it, `attacked` or `calm`, is answered by a line.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack

import django

from tests.benchmarks.servers import RunningServer, running

USER = "bob"


async def main() -> None:
    """Be attacked as told until there is nothing more to read."""
    from pubsubcache.worker import process
    from tests.acceptance.site import Site
    from tests.benchmarks.hostile import add_nodes, hostile_nodes, under_attack

    process.set_up()
    server: RunningServer = running(json.loads(sys.stdin.readline()))
    site = Site(server, USER)  # type: ignore[arg-type]
    await site.add_account()
    async with site.working():
        addresses = hostile_nodes(server)
        await add_nodes(site, addresses)
        print("ready", flush=True)
        async with AsyncExitStack() as stack:
            while line := await asyncio.to_thread(sys.stdin.readline):
                await stack.aclose()
                if line.strip() == "attacked":
                    await stack.enter_async_context(under_attack(site, addresses))
                print("done", flush=True)


if __name__ == "__main__":
    django.setup()
    from pubsubcache import database

    database.prepare(whole_site=True)
    asyncio.run(main())
