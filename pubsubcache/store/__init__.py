"""Reads and writes of the database: small plain functions, each one transaction.

`in_thread(function)` makes a coroutine function of one, for asynchronous code. What acquires something is awaited by
`uninterrupted`.
"""

from pubsubcache.store.accounts import remove_accounts
from pubsubcache.store.choices import choices
from pubsubcache.store.nodes import choose_analyser, forget_nodes, request_sync, set_policy
from pubsubcache.store.purging import purge, purgeable
from pubsubcache.store.threads import in_thread, own_thread, uninterrupted

__all__ = [
    "choices",
    "choose_analyser",
    "forget_nodes",
    "in_thread",
    "own_thread",
    "purge",
    "purgeable",
    "remove_accounts",
    "request_sync",
    "set_policy",
    "uninterrupted",
]
