"""Control of worker processes: signals, memory and logs."""

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
from django.db import connection

from project.sample.process import PrivateServer

#: Short times, so that a lease expires and is taken over within a test.
QUICK = {
    "PUBSUBCACHE_LEASE_TIMEOUT": "2",
    "PUBSUBCACHE_RETRY_DELAY": "0.2",
    "PUBSUBCACHE_RECONNECT_MAX_DELAY": "0.5",
}
QUICK_CONSTANTS = {
    "pubsubcache.worker.keeper.POLL_INTERVAL": 0.3,
    "pubsubcache.worker.worker.HEARTBEATS": 7,
    "pubsubcache.models.node.CLAIM_LEASES": 2,
}


def pause(process: PrivateServer | subprocess.Popen[str]) -> None:
    """Pause a process (SIGSTOP); return when it has stopped.

    On SQLite, a process that is paused in the middle of a transaction blocks every other writer until it goes on, so
    it is paused outside one. PostgreSQL ends such a transaction itself.
    """
    while True:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        if connection.vendor != "sqlite" or _can_write():
            return
        resume(process)
        time.sleep(0.05)


def _can_write() -> bool:
    """Return whether the SQLite database can be locked for writing within half a second."""
    with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=0.5, isolation_level=None)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


def resume(process: PrivateServer | subprocess.Popen[str]) -> None:
    """Resume a paused process."""
    os.kill(process.pid, signal.SIGCONT)


def kill(process: PrivateServer) -> None:
    """Kill a process without any cleanup (SIGKILL); return when it has ended."""
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


@contextmanager
def paused(process: PrivateServer) -> Iterator[None]:
    """Pause a process inside the block."""
    pause(process)
    try:
        yield
    finally:
        resume(process)


def memory(process: PrivateServer) -> float:
    """Return the memory that a process uses, in megabytes."""
    return float(psutil.Process(process.pid).memory_info().rss) / 1e6


def log(process: PrivateServer) -> str:
    """Return everything that a process has logged."""
    return process.log_file.read_text(errors="surrogateescape")
