"""How a process is set up that holds sessions, and may serve readers beside them."""

import gc
import sys

SWITCH_INTERVAL = 0.0005  # seconds


def set_up() -> None:
    """Keep pauses short: for a reader, a thread that computes and a collection of garbage are both waiting time.

    Threads change places after half a millisecond, not five. What was imported is no longer looked at by the garbage
    collector, which otherwise stops the process for tens of milliseconds now and then.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()


__all__ = ["set_up"]
