"""Sets up a process that holds sessions, and may also serve readers."""

import gc
import sys

SWITCH_INTERVAL = 0.0005  # seconds


def set_up() -> None:
    """Keep pauses short: readers wait while another thread computes, and during garbage collection.

    The switch interval of threads is half a millisecond instead of five. Imported objects are frozen, so the garbage
    collector does not scan them; otherwise it occasionally stops the process for tens of milliseconds.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()


__all__ = ["set_up"]
