"""The schema of the cache: accounts, nodes and items."""

from pubsubcache.models.account import Account, AccountQuerySet, PendingUnsubscription, validate_account_jid
from pubsubcache.models.item import PubsubEvicted, PubsubItem, PubsubItemQuerySet, PubsubTombstone
from pubsubcache.models.node import AnalyserChoice, PubsubNode, PubsubNodeQuerySet
from pubsubcache.models.reparsing import ReparseRun
from pubsubcache.models.traits import NodeTraits

__all__ = [
    "Account",
    "AccountQuerySet",
    "AnalyserChoice",
    "NodeTraits",
    "PendingUnsubscription",
    "PubsubEvicted",
    "PubsubItem",
    "PubsubItemQuerySet",
    "PubsubNode",
    "PubsubNodeQuerySet",
    "PubsubTombstone",
    "ReparseRun",
    "validate_account_jid",
]
