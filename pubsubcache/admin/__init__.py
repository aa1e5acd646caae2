"""The Django admin of the cache: accounts, nodes, items, and the analysers in effect.

What a person may see and do is decided by the models' permissions alone: whoever may view nodes sees
those of every account, whoever owns it. Besides Django's own there are `sync_pubsubnode` and
`purge_pubsubnode`. Nothing that came from a service can be edited here, and nothing of it is shown unescaped.
"""

from pubsubcache.admin import accounts, items, nodes

__all__ = ["accounts", "items", "nodes"]
