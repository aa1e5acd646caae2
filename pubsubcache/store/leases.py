"""Leases: the right of one worker to write for an account, checked in each transaction that writes.

A suspended worker may continue after another worker has taken over its accounts. Each lease contains a fencing token
that is incremented by every takeover and every new session, so writes under an older token fail.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import connection, transaction
from django.db.models import Func, TextField, Value

from pubsubcache.conf import settings
from pubsubcache.exceptions import LeaseLost
from pubsubcache.models import Account

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of `worker` to act for an account while `token` is the account's fencing token."""

    account_pk: int
    worker: str
    token: int


_current: ContextVar[Lease | None] = ContextVar("pubsubcache_lease", default=None)


def current_lease() -> Lease | None:
    """Return the lease of the current task, or None if it acts without one."""
    return _current.get()


@contextmanager
def acting_under(lease: Lease | None) -> Iterator[None]:
    """Make the writes of this task and the threads it starts depend on `lease`."""
    token = _current.set(lease)
    try:
        yield
    finally:
        _current.reset(token)


def fenced(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function` in a transaction that first checks the lease of the task, if any.

    Raises:
        LeaseLost: The lease is no longer valid.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with transaction.atomic():
            if (lease := _current.get()) is None:
                return function(*args, **kwargs)
            _require(lease)
            with acting_under(None):  # check only once per transaction
                return function(*args, **kwargs)

    return run


def _require(lease: Lease) -> None:
    """Check that `lease` is valid, and keep it valid until the transaction ends.

    Raises:
        LeaseLost: The lease is not valid.
    """
    held = Account.objects.filter(pk=lease.account_pk, worker=lease.worker, fencing_token=lease.token)
    if connection.vendor == "postgresql":
        # The shared lock lets transactions of the holder run in parallel and makes a takeover wait for them. PostgreSQL
        # ends a transaction in which a worker is suspended after the timeout.
        timeout = Value(f"{settings.LEASE_TIMEOUT:g}s")
        columns = held.order_by().values_list(
            Func(
                Value("idle_in_transaction_session_timeout"),
                timeout,
                Value(True),
                function="set_config",
                output_field=TextField(),
            )
        )
        sql, parameters = columns.query.sql_with_params()
        with connection.cursor() as cursor:
            cursor.execute(f"{sql} FOR SHARE", parameters)
            is_held = cursor.fetchone() is not None
    else:
        is_held = held.exists()
    if not is_held:
        raise LeaseLost("Another worker has taken over the account, or a new session has started.")
