"""Reads and writes the database in small synchronous functions, each a single transaction.

Asynchronous code calls `in_thread(function)`, which returns a coroutine function. It awaits calls that acquire a lease
or claim with `uninterrupted`.
"""

from pubsubcache.store.accounts import remove_accounts
from pubsubcache.store.choices import choices
from pubsubcache.store.evicting import evict, evictable
from pubsubcache.store.nodes import (
    choose_analyser,
    emptied_by_choice,
    forget_nodes,
    request_sync,
    save_choice,
    set_policy,
)
from pubsubcache.store.threads import in_thread, own_thread, uninterrupted

__all__ = [
    "choices",
    "choose_analyser",
    "emptied_by_choice",
    "evict",
    "evictable",
    "forget_nodes",
    "in_thread",
    "own_thread",
    "remove_accounts",
    "request_sync",
    "save_choice",
    "set_policy",
    "uninterrupted",
]
