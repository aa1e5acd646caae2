"""A second client, in a process of its own: told on stdin what to publish, it says when that is done."""

import asyncio
import os
import sys

END = "end"
EDITED = 10  # one item in so many is published a second time, at the end


def burst_names(count: int) -> list[str]:
    """Return the ids of a burst of `count` notifications, in order: new items, edits of the first ones, the end."""
    edits = (count - 1) // EDITED
    new = [f"item-{number}" for number in range(count - 1 - edits)]
    return [*new, *new[:edits], END]


async def main() -> None:
    """Serve the process that started this one."""
    from pubsubcache.types import NodeAddress
    from pubsubcache.xmpp.session import open_session
    from tests.acceptance.site import entry
    from tests.benchmarks.plan import Job
    from tests.benchmarks.servers import RunningServer

    ((_, described),) = Job.from_json(sys.stdin.readline()).servers.items()
    async with open_session(RunningServer(**described).login("bob")) as session:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            count, service, node = line.split()
            address = NodeAddress(service, node)
            await asyncio.gather(
                *(
                    session.publish(address, entry(f"Notification {place}"), name)
                    for place, name in enumerate(burst_names(int(count)))
                )
            )
            print("done", flush=True)


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
    asyncio.run(main())
