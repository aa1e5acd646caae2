"""Process trees."""

import psutil


def family(pid: int) -> list[psutil.Process]:
    """Return the process `pid` with all its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def survivors(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those of `processes` that still run after some time, except zombies."""
    running = psutil.wait_procs(processes, timeout=60)[1]
    return [process for process in running if process.status() != psutil.STATUS_ZOMBIE]
