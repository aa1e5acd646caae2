"""Measures the cache on each database, against private servers, and shows the figures."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from tests.benchmarks import report
from tests.benchmarks.plan import Figure, Job, Plan
from tests.benchmarks.servers import describe
from tests.servers.ejabberd import Ejabberd
from tests.servers.postgresql import PostgreSQL
from tests.servers.xmpp import TestProsody, XmppServer

ROOT = Path(__file__).resolve().parents[2]
DATABASES = ("sqlite", "postgresql")
MEASURES = ("hits", "sync", "notifications", "memory", "hostile")
OF_THE_USER = ("PUBSUBCACHE_", "XMPP_", "DEBUG", "REDIS_URL", "ALLOWED_HOSTS", "HTTPS")
progress = Console(stderr=True)


def main() -> None:
    """Measure what was asked for."""
    options = _options()
    plan = Plan.quick() if options.quick else Plan()
    figures: dict[str, list[Figure]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pubsubcache-benchmarks-")))
        (folder / "static").mkdir()
        servers = _servers(stack, folder, options.measure)
        for database in DATABASES if options.database == "both" else [options.database]:
            found = figures.setdefault(database, [])
            for job in _jobs(options.measure, plan, servers):
                progress.log(f"{database}: {', '.join(job.measures)}")
                with _database(database, folder) as url:
                    found += _run(job, url, folder)
    report.show(Console(width=None if sys.stdout.isatty() else 140), figures)
    path = options.json or ROOT / "var" / "bench" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    report.keep(path, figures, sys.argv[1:])
    progress.log(f"Kept in {path}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: rough figures")
    parser.add_argument("--database", choices=[*DATABASES, "both"], default="both")
    parser.add_argument("--json", type=Path, metavar="PATH", help="keep the figures here (var/bench/TIME.json)")
    parser.add_argument("--measure", choices=MEASURES, action="append", help="only this (repeatable)")
    options = parser.parse_args()
    options.measure = options.measure or list(MEASURES)
    return options


def _servers(stack: ExitStack, folder: Path, measures: list[str]) -> dict[str, XmppServer]:
    servers: dict[str, XmppServer] = {"ejabberd": stack.enter_context(Ejabberd(folder / "ejabberd", log_level="error"))}
    if {"hits", "hostile"} & set(measures):
        servers["prosody"] = stack.enter_context(TestProsody(folder / "prosody"))
    return servers


def _jobs(measures: list[str], plan: Plan, servers: dict[str, XmppServer]) -> Iterator[Job]:
    """Yield what each process is to do: memory is that of a process that did nothing else."""
    described = {name: describe(server) for name, server in servers.items()}
    for name in MEASURES:
        if name not in measures:
            continue
        plans = [replace(plan, memory=(count,)) for count in plan.memory] if name == "memory" else [plan]
        for one in plans:
            yield Job([name], one, described)


@contextmanager
def _database(name: str, folder: Path) -> Iterator[str]:
    """Give the DATABASE_URL of an empty database."""
    if name == "postgresql":
        with PostgreSQL() as server:
            yield server.create_database("benchmarks")
    else:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            yield f"sqlite:///{own}/db.sqlite3"


def _run(job: Job, url: str, folder: Path) -> list[Figure]:
    """Have a process of its own do a job on a database, for Django is set up with one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_USER)}
    environment |= {
        "DATABASE_URL": url,
        "DATA_DIR": str(folder),
        "SECRET_KEY": "a key for benchmarks, and for nothing else but benchmarks",
        "LOG_LEVEL": "WARNING",
        "DJANGO_SETTINGS_MODULE": "project.settings",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.process"],
        cwd=ROOT,
        env=environment,
        input=job.to_json(),
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(f"The measurement of {', '.join(job.measures)} failed.")
    return [Figure(**figure) for figure in json.loads(done.stdout)]


if __name__ == "__main__":
    main()
