"""Items of nodes: those that are kept, and what is known of those that are not."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Self

from django.db import connections, models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from pubsubcache.conf import settings
from pubsubcache.lookups.conditions.containment import Contains, checked
from pubsubcache.lookups.fulltext import postgresql, sqlite
from pubsubcache.lookups.fulltext.query import Node, parse, terms
from pubsubcache.lookups.hotkeys import COLUMNS, KEYS, HasTag, hot_key, hot_key_index
from pubsubcache.lookups.parsed import order_of_parsed, parsed_matches
from pubsubcache.lookups.snippets import Snippet
from pubsubcache.models.fields import JSONField
from pubsubcache.models.node import PubsubNode
from pubsubcache.types import Item


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
        """Items whose `parsed` contains `value`, in the sense of PostgreSQL's `@>` (`lookups.conditions.containment`).

        Raises `InvalidRequest` when `value` is not JSON, or too large.
        """
        return self.filter(Contains(checked(value)))

    def full_text(self, query: str) -> Self:
        """Items whose words are what `query` asks for, with `rank` (a float, larger is better); by an index.

        `lookups.fulltext.query` says what a query is. White space finds everything; a query without a word, nothing.
        Raises `InvalidRequest` for a query that is too long or too deep.
        """
        if not query.strip():
            return self.annotate(rank=models.Value(0.0, models.FloatField()))
        if (tree := parse(query)) is None:
            return self.annotate(rank=models.Value(0.0, models.FloatField())).none()
        if connections[self.db].vendor == "postgresql":
            found = self.filter(postgresql.Matches(tree)).annotate(rank=postgresql.Rank(tree))
        else:
            found = self._chain()  # type: ignore[attr-defined]
            alias = sqlite.join(found.query, tree)
            found = found.filter(sqlite.IsFound(alias)).annotate(
                rank=sqlite.FoundColumn(alias, "rank", models.FloatField())
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


class PubsubItem(models.Model):
    """An item of a node: its raw XML in normal form, and what the analyser's parser made of it."""

    # Without an index of its own: those below begin with it, and PostgreSQL would at times take the lesser one.
    node = models.ForeignKey(
        PubsubNode, on_delete=models.CASCADE, related_name="items", verbose_name=_("node"), db_index=False
    )
    name = models.TextField(_("item id"))
    data = models.TextField(_("XML"))
    parsed = JSONField(_("parsed"), null=True, blank=True, default=None)
    created = models.DateTimeField(_("created"), default=timezone.now)
    updated = models.DateTimeField(_("updated"), default=timezone.now)
    publisher = models.CharField(_("publisher"), max_length=3071, blank=True, default="")
    position = models.BigIntegerField(_("position"), default=0)
    parse_error = models.TextField(_("parse error"), blank=True, default="")
    text = models.TextField(_("text"), blank=True, default="")
    revision = models.BigIntegerField(_("revision"), default=0)
    # Kept by the database itself, see `lookups.hotkeys`.
    parsed_title = hot_key("title", _("title"))
    parsed_author = hot_key("author", _("author"))
    parsed_author_jid = hot_key("author_jid", _("author's JID"))
    parsed_published = hot_key("published", _("published"))
    parsed_updated = hot_key("updated", _("updated by its author"))
    parsed_start = hot_key("start", _("start"))

    objects = PubsubItemManager()

    class Meta:
        verbose_name = _("item")
        verbose_name_plural = _("items")
        constraints = [models.UniqueConstraint(fields=["node", "name"], name="pubsubcache_item_unique")]
        indexes = [
            models.Index(fields=["node", "position"], name="pubsubcache_item_position"),
            models.Index(fields=["node", "created", "position"], name="pubsubcache_item_created"),
            models.Index(fields=["node", "updated", "position"], name="pubsubcache_item_updated"),
            *(hot_key_index(key) for key in KEYS),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def item_id(self) -> str:
        """The id of the item, which the column `name` holds."""
        return self.name

    def as_item(self) -> Item:
        """Return the item as readers get it."""
        return Item(
            id=self.name,
            xml=self.data,
            parsed=self.parsed,
            publisher=self.publisher or None,
            created=self.created,
            updated=self.updated,
        )


class PubsubEvicted(models.Model):
    """An item that the service has and the cache does not: its id and place are known, so that pages stay exact.

    Without a `reason` it was purged or is over a limit, and reads ask the service for it. With a `reason` the item
    is left out: it cannot be kept, and no read asks for it.
    """

    node = models.ForeignKey(PubsubNode, on_delete=models.CASCADE, related_name="evicted")
    name = models.TextField()
    position = models.BigIntegerField()
    created = models.DateTimeField()
    updated = models.DateTimeField()
    reason = models.TextField(blank=True, default="")
    revision = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = _("purged item")
        verbose_name_plural = _("purged items")
        constraints = [models.UniqueConstraint(fields=["node", "name"], name="pubsubcache_evicted_unique")]
        indexes = [
            models.Index(fields=["node", "position"], name="pubsubcache_evicted_position"),
            models.Index(fields=["node", "position"], condition=~models.Q(reason=""), name="pubsubcache_left_out"),
        ]

    def __str__(self) -> str:
        return self.name


class PubsubTombstone(models.Model):
    """An item retracted while its node was being synchronised: a page asked for before must not bring it back."""

    node = models.ForeignKey(PubsubNode, on_delete=models.CASCADE, related_name="tombstones")
    name = models.TextField()
    revision = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "name"], name="pubsubcache_tombstone_unique")]

    def __str__(self) -> str:
        return self.name
