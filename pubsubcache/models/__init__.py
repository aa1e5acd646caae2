"""The schema of the cache: accounts, nodes and items, and records of what happened to them."""

from pubsubcache.models.account import Account, AccountQuerySet, PendingUnsubscription, validate_account_jid
from pubsubcache.models.activity import Activity, ActivityQuerySet
from pubsubcache.models.item import PubsubEvicted, PubsubItem, PubsubItemQuerySet, PubsubTombstone
from pubsubcache.models.job import Job, JobQuerySet
from pubsubcache.models.node import AnalyserChoice, PubsubNode, PubsubNodeQuerySet
from pubsubcache.models.reparsing import ReparseRun
from pubsubcache.models.sync_run import SyncRun, SyncRunQuerySet
from pubsubcache.models.traits import NodeTraits

__all__ = [
    "Account",
    "AccountQuerySet",
    "Activity",
    "ActivityQuerySet",
    "AnalyserChoice",
    "Job",
    "JobQuerySet",
    "NodeTraits",
    "PendingUnsubscription",
    "PubsubEvicted",
    "PubsubItem",
    "PubsubItemQuerySet",
    "PubsubNode",
    "PubsubNodeQuerySet",
    "PubsubTombstone",
    "ReparseRun",
    "SyncRun",
    "SyncRunQuerySet",
    "validate_account_jid",
]
