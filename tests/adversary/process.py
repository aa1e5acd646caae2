"""Workers as processes: what signals do to them, what they take, what they say."""

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
    """Stop a process where it is (SIGSTOP); return when it stands still."""
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def resume(process: PrivateServer) -> None:
    """Let a paused process go on."""
    os.kill(process.pid, signal.SIGCONT)


def kill(process: PrivateServer) -> None:
    """End a process without giving it a chance to say anything (SIGKILL); return when it is gone."""
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


@contextmanager
def paused(process: PrivateServer) -> Iterator[None]:
    """Have a process stand still meanwhile."""
    pause(process)
    try:
        yield
    finally:
        resume(process)


def memory(process: PrivateServer) -> float:
    """Return how much memory a process holds, in megabytes."""
    return float(psutil.Process(process.pid).memory_info().rss) / 1e6


def log(process: PrivateServer) -> str:
    """Return all that a process wrote."""
    return process.log_file.read_text(errors="surrogateescape")
