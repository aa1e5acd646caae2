"""The Django admin of the cache: accounts, nodes, items, sync runs and analysers.

Access depends on the permissions of the models only: users who may view nodes see the nodes of all accounts, whoever
owns them. In addition to the permissions of Django there are `sync_pubsubnode` and `purge_pubsubnode`. Data from
services cannot be edited and is always escaped.
"""

from pubsubcache.admin import accounts, items, nodes, runs

__all__ = ["accounts", "items", "nodes", "runs"]
