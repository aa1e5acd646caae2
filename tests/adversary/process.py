"""Control of worker processes: signals, memory and logs."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

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


def pause(process: PrivateServer) -> None:
    """Pause a process (SIGSTOP); return when it has stopped."""
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def resume(process: PrivateServer) -> None:
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
