"""Leases: the right of one worker to write for an account, checked in the transaction that writes.

A worker that was suspended may go on after another one has taken its accounts over. Each lease carries a token that
grows with every takeover and every new session, so that what such a worker still writes is refused.
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
    """The right of `worker` to act for an account, as of the fencing token `token`."""

    account_pk: int
    worker: str
    token: int


_current: ContextVar[Lease | None] = ContextVar("pubsubcache_lease", default=None)


def current_lease() -> Lease | None:
    """Return the lease under which the running task acts; None in a process that holds none."""
    return _current.get()


@contextmanager
def acting_under(lease: Lease | None) -> Iterator[None]:
    """Make the writes of this task, and of the threads it starts, depend on `lease`."""
    token = _current.set(lease)
    try:
        yield
    finally:
        _current.reset(token)


def fenced(function: Callable[P, T]) -> Callable[P, T]:
    """Make `function` one transaction, which raises `LeaseLost` first if the task's lease is no longer valid."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with transaction.atomic():
            if (lease := _current.get()) is None:
                return function(*args, **kwargs)
            _require(lease)
            with acting_under(None):  # checked once in a transaction
                return function(*args, **kwargs)

    return run


def _require(lease: Lease) -> None:
    """Raise `LeaseLost` unless `lease` is valid, and keep it valid until the transaction ends."""
    held = Account.objects.filter(pk=lease.account_pk, worker=lease.worker, fencing_token=lease.token)
    if connection.vendor == "postgresql":
        # Locked in shared mode: transactions of the holder run side by side, a takeover waits for their end. A worker
        # that is suspended within one would never end it, so PostgreSQL does.
        patience = Value(f"{settings.LEASE_TIMEOUT:g}s")
        columns = held.order_by().values_list(
            Func(
                Value("idle_in_transaction_session_timeout"),
                patience,
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
        raise LeaseLost("Another worker has taken the account over, or its session began anew.")
