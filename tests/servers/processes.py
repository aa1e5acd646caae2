"""Processes with all that they started."""

import psutil


def family(pid: int) -> list[psutil.Process]:
    """Return the process `pid` with all it started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def survivors(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those of `processes` that still run, given time to end; a zombie whose parent has yet to look is none."""
    running = psutil.wait_procs(processes, timeout=10)[1]
    return [process for process in running if process.status() != psutil.STATUS_ZOMBIE]
