"""Counts what happens for each account, in memory, and adds it to the hourly counters once in a while.

A read that the cache answers must not cost another query, so each process counts for itself. It loses at most the
counts of a minute if it dies.
"""

import threading
import time
from collections import Counter
from datetime import timedelta
from itertools import islice

from django.db import Error, connections, transaction
from django.db.models import F

from pubsubcache.models import Account, Activity
from pubsubcache.models.activity import hour_of
from pubsubcache.store.ageing import LOCK_TIMEOUT, short_lock_timeout
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

INTERVAL = 60.0  # seconds between two writes of a process
BATCH = 200  # accounts whose counts are written in one transaction
AGE = timedelta(days=8)  # of the oldest hour that is kept


class Counters:
    """The counters of this process, by bare JID of the account."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self._flushed = time.monotonic()
        self._last = 0.0  # when something was counted

    def count(self, account_jid: str, counter: str, number: int = 1) -> None:
        """Add `number` to one of the `COUNTERS` of an account. Any thread may call this; it does not block."""
        if number:
            with self._lock:
                self._counts.setdefault(account_jid, Counter())[counter] += number
                self._last = time.monotonic()

    def flush_if_due(self) -> None:
        """Write the counts if `INTERVAL` has passed. Inside a transaction, this happens after its end."""
        if time.monotonic() - self._flushed >= INTERVAL:
            self.flush_soon()

    def flush_soon(self) -> None:
        """Write the counts now, or after the end of the transaction. Does not open the database without counts."""
        if not self._counts:
            return
        try:
            transaction.on_commit(self.flush)
        except Error as error:
            logger.debug("The counters could not be written: %s", error)

    def flush(self) -> None:
        """Write the counts. If the database is locked, keep them for the next time."""
        with self._lock:
            counts, self._counts = self._counts, {}
            self._flushed = time.monotonic()
            age = self._flushed - self._last
        while counts:
            batch = dict(islice(counts.items(), BATCH))
            try:
                _add(batch, age)
            except Error as error:
                logger.debug("The counters could not be written: %s", error)
                self._put_back(counts)
                return
            for account_jid in batch:
                del counts[account_jid]

    def _put_back(self, counts: dict[str, Counter[str]]) -> None:
        with self._lock:
            for account_jid, numbers in counts.items():
                self._counts.setdefault(account_jid, Counter()).update(numbers)


counters = Counters()


def _add(counts: dict[str, Counter[str]], age: float) -> None:
    """Add counts to the hourly counters. They were made `age` seconds ago. Accounts that were removed are ignored."""
    connection = connections[Activity.objects.db]
    with short_lock_timeout(connection.alias), transaction.atomic(using=connection.alias):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_TIMEOUT}ms"])
        hour = hour_of(clock.now() - timedelta(seconds=age))
        accounts = dict(Account.objects.filter(jid__in=counts).order_by("pk").values_list("pk", "jid"))
        rows = [Activity(account_id=pk, hour=hour) for pk in accounts]
        Activity.objects.bulk_create(rows, ignore_conflicts=True)
        for pk, jid in accounts.items():
            sums = {name: F(name) + number for name, number in counts[jid].items()}
            Activity.objects.filter(account_id=pk, hour=hour).update(**sums)


@transaction.atomic
def prune(account_pk: int) -> int:
    """Remove hours of an account that are older than `AGE`; return their number."""
    return Activity.objects.filter(account_id=account_pk, hour__lt=clock.now() - AGE).delete()[0]
