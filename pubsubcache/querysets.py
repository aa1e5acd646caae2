"""Query methods of the models."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.db import connections, models
from django.db.models.functions import Now

from pubsubcache import clock
from pubsubcache.conf import settings
from pubsubcache.lookups import fulltext_postgresql, fulltext_sqlite
from pubsubcache.lookups.containment import Contains, checked
from pubsubcache.lookups.hotkeys import COLUMNS, HasTag
from pubsubcache.lookups.parsed import order_of_parsed, parsed_matches
from pubsubcache.lookups.query import Node, parse, terms
from pubsubcache.lookups.snippets import Snippet

if TYPE_CHECKING:
    from pubsubcache.models import Account, PubsubItem, PubsubNode  # noqa: F401  (named in strings below)

M = TypeVar("M", bound=models.Model)


def silent(column: str, seconds: float, now: datetime | None = None) -> models.Q:
    """Return the condition that nothing was heard of the owner of a row for `seconds`: its heartbeat proves nothing.

    Args:
        column: The column with the heartbeat.
        seconds: How long a heartbeat counts.
        now: The time by the database's clock.
    """
    now = now or clock.now()
    return (
        models.Q(**{f"{column}__isnull": True})
        | models.Q(**{f"{column}__lte": now - timedelta(seconds=seconds)})
        | models.Q(**{f"{column}__gt": now + clock.TOLERANCE})
    )


class TimedQuerySet(models.QuerySet[M]):
    """Rows that can tell when they were read."""

    def with_time(self) -> Self:
        """Rows with `as_of`: when they are read, by the database's clock."""
        return self.annotate(as_of=Now())


class AccountQuerySet(TimedQuerySet["Account"]):
    """Accounts."""

    def enabled(self) -> Self:
        """Accounts of which workers keep a session."""
        return self.filter(enabled=True)

    def free_or_of(self, worker: str, now: datetime | None = None) -> Self:
        """Accounts held by `worker`, or by nobody who is alive."""
        return self.filter(models.Q(worker__in=["", worker]) | silent("heartbeat", settings.LEASE_TIMEOUT, now))

    def with_progress(self) -> Self:
        """Accounts with `as_of`, `number_of_nodes`, and `number_waiting` of them for a first or a new comparison."""
        nodes = models.Count("nodes")
        unchecked = models.Q(nodes__checked_at__isnull=True) | ~models.Q(nodes__checked_token=models.F("fencing_token"))
        waiting = models.Q(nodes__sync_state__isnull=True) | models.Q(nodes__sync_state="IN_PROGRESS")
        waiting |= models.Q(nodes__sync_state="COMPLETED") & unchecked
        return self.with_time().annotate(number_of_nodes=nodes, number_waiting=models.Count("nodes", filter=waiting))


class PubsubNodeQuerySet(TimedQuerySet["PubsubNode"]):
    """Nodes."""

    def matching(
        self,
        *,
        accounts: Iterable[str] = (),
        services: Iterable[str] = (),
        nodes: Iterable[str] = (),
        types: Iterable[str] = (),
        subtypes: Iterable[str] = (),
    ) -> Self:
        """Nodes that fulfil every filter given; a filter is fulfilled by any one of its values."""
        filters: dict[str, Any] = {
            "account__jid__in": list(accounts),
            "service__in": list(services),
            "name__in": list(nodes),
            "type__in": list(types),
            "subtype__in": list(subtypes),
        }
        return self.filter(**{lookup: values for lookup, values in filters.items() if values})

    def unclaimed(self, now: datetime | None = None) -> Self:
        """Nodes that nobody who is alive synchronises."""
        return self.filter(models.Q(sync_owner="") | silent("sync_heartbeat", settings.SYNC_CLAIM_TIMEOUT, now))

    def doubt(self) -> int:
        """Stop vouching for the nodes; those that are just being synchronised are to be once more."""
        again = models.Case(models.When(sync_owner="", then="sync_requested"), default=clock.now())
        return self.update(checked_at=None, sync_requested=again)


class PubsubItemQuerySet(models.QuerySet["PubsubItem"]):
    """Items."""

    _sought: tuple[Node, ...] = ()  # by `full_text`

    def _clone(self) -> Self:
        clone: Self = super()._clone()  # type: ignore[misc]
        clone._sought = self._sought
        return clone

    def matching(
        self,
        *,
        accounts: Iterable[str] = (),
        services: Iterable[str] = (),
        nodes: Iterable[str] = (),
        types: Iterable[str] = (),
        subtypes: Iterable[str] = (),
        names: Iterable[str] = (),
    ) -> Self:
        """Items that fulfil every filter given; a filter is fulfilled by any one of its values."""
        filters = {
            "node__account__jid__in": list(accounts),
            "node__service__in": list(services),
            "node__name__in": list(nodes),
            "node__type__in": list(types),
            "node__subtype__in": list(subtypes),
            "name__in": list(names),
        }
        return self.filter(**{lookup: values for lookup, values in filters.items() if values})

    def where_parsed(self, path: str | Sequence[str | int], operator: str, value: Any = True) -> Self:
        """Items of which a field of the parsed data fulfils an operator; see `parsed_matches`, for use within `Q` too.

        Raises `InvalidRequest`.
        """
        return self.filter(parsed_matches(path, operator, value))

    def order_by_parsed(self, path: str | Sequence[str | int], *, descending: bool = False) -> Self:
        """Items by a field of the parsed data: numbers, then texts by code point; those with neither come last.

        Raises `InvalidRequest`.
        """
        return self.order_by(*order_of_parsed(path, descending=descending), "pk")

    def in_order(self) -> Self:
        """Items oldest first, as the service lists them."""
        return self.order_by("position", "pk")

    def tagged(self, *tags: str) -> Self:
        """Items whose `parsed["tags"]` has all these tags, exactly as given; by an index."""
        return self.filter(*(HasTag(tag) for tag in tags))

    def containing(self, value: Any) -> Self:
        """Items whose `parsed` contains `value`, JSON, as PostgreSQL's `@>` has it: see `lookups.containment`.

        Raises `InvalidRequest` when `value` is not JSON, or too large.
        """
        return self.filter(Contains(checked(value)))

    def full_text(self, query: str) -> Self:
        """Items whose words are what `query` asks for, with `rank` (a float, larger is better); by an index.

        `lookups.query` says what a query is. One of white space finds everything, one that has no word in it nothing.
        Raises `InvalidRequest` for a query that is too long or too deep.
        """
        if not query.strip():
            return self.annotate(rank=models.Value(0.0, models.FloatField()))
        if (tree := parse(query)) is None:
            return self.annotate(rank=models.Value(0.0, models.FloatField())).none()
        if connections[self.db].vendor == "postgresql":
            found = self.filter(fulltext_postgresql.Matches(tree)).annotate(rank=fulltext_postgresql.Rank(tree))
        else:
            found = self._chain()  # type: ignore[attr-defined]
            alias = fulltext_sqlite.join(found.query, tree)
            found = found.filter(fulltext_sqlite.IsFound(alias)).annotate(
                rank=fulltext_sqlite.FoundColumn(alias, "rank", models.FloatField())
            )
        found._sought = (*self._sought, tree)
        return found.with_snippets() if "snippet" in found.query.annotations else found

    def with_snippets(self) -> Self:
        """Items with `snippet`: a part of their words, what `full_text` looked for being marked in it.

        `lookups.snippets` says how; without `full_text` before, it is how the text begins.
        """
        stems = connections[self.db].vendor == "postgresql" and settings.SEARCH_LANGUAGE != "simple"
        return self.annotate(snippet=Snippet("text", chain.from_iterable(map(terms, self._sought)), stems=stems))


_ItemManager = models.Manager.from_queryset(PubsubItemQuerySet)


class PubsubItemManager(_ItemManager["PubsubItem"]):
    """Leaves the columns with hot keys in the database unless they are asked for: `parsed` has it all."""

    def get_queryset(self) -> PubsubItemQuerySet:
        """Return all items."""
        return PubsubItemQuerySet(self.model, using=self._db).defer(*COLUMNS)
