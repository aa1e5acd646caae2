"""The Channels worker that holds the accounts' sessions."""

from pubsubcache.worker.worker import PubsubWorker

__all__ = ["PubsubWorker"]
