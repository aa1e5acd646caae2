"""One process that measures on one database: its job as JSON on stdin, its figures as JSON on stdout."""

import asyncio
import json
import os
import sys
from dataclasses import asdict


def main() -> None:
    """Measure what the job says."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
    from pubsubcache import database
    from tests.benchmarks import hits, hostile, memory, notifications, syncing
    from tests.benchmarks.plan import Figure, Job
    from tests.benchmarks.servers import running

    measures = {"hits": hits, "sync": syncing, "notifications": notifications, "memory": memory, "hostile": hostile}
    job = Job.from_json(sys.stdin.read())
    database.prepare()
    servers = {name: running(described) for name, described in job.servers.items()}

    async def run() -> list[Figure]:
        figures: list[Figure] = []
        for name in job.measures:
            figures += await measures[name].measure(servers, job.plan)
        return figures

    figures = asyncio.run(run())
    print(json.dumps([asdict(figure) for figure in figures]))


if __name__ == "__main__":
    main()
