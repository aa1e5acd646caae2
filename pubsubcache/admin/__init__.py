"""The Django admin of the cache: accounts, nodes, items, sync runs and analysers.

The permissions of the models say what users may do, and the owners of accounts say where: users see and steer their own
accounts, or all with `all_accounts`. There are also the permissions `sync_pubsubnode` and `purge_pubsubnode`. Data from
services cannot be edited and is always escaped.
"""

from pubsubcache.admin import accounts, analysers, items, jobs, nodes, runs

__all__ = ["accounts", "analysers", "items", "jobs", "nodes", "runs"]
