"""Items of nodes: cached items, and the ids and positions of items that are not cached."""

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
from pubsubcache.models.account import is_visible_to
from pubsubcache.models.fields import JSONField
from pubsubcache.models.node import MAX_LABEL, PubsubNode, is_any_of
from pubsubcache.types import Item
from pubsubcache.utils.cleaning import label


class IsUnparsed(models.Func):
    """Condition that there is a parse error.

    Without a parameter, SQLite knows that it holds for all entries of the partial index, and reads no rows.
    """

    template = "NOT (%(expressions)s = '')"
    output_field = models.BooleanField()
    conditional = True


class PubsubItemQuerySet(models.QuerySet["PubsubItem"]):
    """Queries for items."""

    _queries: tuple[Node, ...] = ()  # of `full_text`, for snippets

    def _clone(self) -> Self:
        clone: Self = super()._clone()  # type: ignore[misc]
        clone._queries = self._queries
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
        """Return the items that match all filters; an item matches a filter if it has any of its values.

        Empty filters are ignored.
        """
        return self.filter(
            is_any_of(
                node__account__jid=accounts,
                node__service=services,
                node__name=nodes,
                node__type=types,
                node__subtype=subtypes,
                name=names,
            )
        )

    def visible_to(self, user: Any) -> Self:
        """Return the items of the accounts that a user of the site may see; see `is_visible_to`."""
        return self.filter(is_visible_to(user, "node__account__owner"))

    def of_many(self, nodes: models.QuerySet[PubsubNode]) -> Self:
        """Return the items of nodes that have many, by looking up the node of each item.

        A join would make SQLite read all these items and sort them, even if an index has the order of the list.
        """
        return self.filter(models.Exists(nodes.order_by().filter(pk=models.OuterRef("node_id"))))

    def unparsed(self) -> Self:
        """Return the items that could not be parsed. Uses an index that has only these."""
        return self.filter(IsUnparsed("parse_error"))

    def where_parsed(self, path: str | Sequence[str | int], operator: str, value: Any = True) -> Self:
        """Return the items whose parsed data match a condition.

        Args:
            path: The key in the parsed data; see `parsed_matches`, which also works within `Q`.
            operator: The name of the operator.
            value: The operand.

        Raises:
            InvalidRequest: The path, operator or value is invalid.
        """
        return self.filter(parsed_matches(path, operator, value))

    def order_by_parsed(self, path: str | Sequence[str | int], *, descending: bool = False) -> Self:
        """Sort the items by a key of the parsed data.

        Numbers come first, then strings by code point, then items with neither.

        Raises:
            InvalidRequest: The path is invalid.
        """
        return self.order_by(*order_of_parsed(path, descending=descending), "pk")

    def in_order(self) -> Self:
        """Sort the items oldest first, in the order of the service."""
        return self.order_by("position", "pk")

    def tagged(self, *tags: str) -> Self:
        """Return the items whose `parsed["tags"]` contains all these tags, compared exactly. Uses an index."""
        return self.filter(*(HasTag(tag) for tag in tags))

    def containing(self, value: Any) -> Self:
        """Return the items whose `parsed` contains `value`, as PostgreSQL's `@>` defines it.

        `lookups.conditions.containment` describes the rules.

        Raises:
            InvalidRequest: `value` is not JSON or is too large.
        """
        return self.filter(Contains(checked(value)))

    def full_text(self, query: str) -> Self:
        """Return the items whose text matches `query`, annotated with `rank` (a float, larger is better).

        `lookups.fulltext.query` describes the syntax. A blank query matches everything; any other query without a word
        matches nothing. Uses an index.

        Raises:
            InvalidRequest: The query is too long or nested too deeply.
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
        found._queries = (*self._queries, tree)
        return found.with_snippets() if "snippet" in found.query.annotations else found

    def with_snippets(self) -> Self:
        """Annotate the items with `snippet`: a part of their text in which the matches of `full_text` are marked.

        Without a call of `full_text` before, it is the beginning of the text. `lookups.snippets` describes the format.
        """
        stems = connections[self.db].vendor == "postgresql" and settings.SEARCH_LANGUAGE != "simple"
        return self.annotate(snippet=Snippet("text", chain.from_iterable(map(terms, self._queries)), stems=stems))


_ItemManager = models.Manager.from_queryset(PubsubItemQuerySet)


class PubsubItemManager(_ItemManager["PubsubItem"]):
    """Defers the columns of hot keys, because `parsed` contains their values."""

    def get_queryset(self) -> PubsubItemQuerySet:
        """Return all items, with the columns of hot keys deferred."""
        return PubsubItemQuerySet(self.model, using=self._db).defer(*COLUMNS)


class PubsubItem(models.Model):
    """An item of a node: its XML in normal form, and the data that the analyser's parser extracted from it."""

    # No index on this column alone: the indexes below start with it, and PostgreSQL sometimes chose the worse one.
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
    # Generated columns; see `lookups.hotkeys`.
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
            models.Index(fields=["id", "node"], condition=~models.Q(parse_error=""), name="pubsubcache_item_unparsed"),
            *(hot_key_index(key) for key in KEYS),
        ]

    def __str__(self) -> str:
        return label(self.name, MAX_LABEL)

    @property
    def item_id(self) -> str:
        """The id of the item, which the column `name` holds."""
        return self.name

    def as_item(self) -> Item:
        """Return the item in the form that readers receive."""
        return Item(
            id=self.name,
            xml=self.data,
            parsed=self.parsed,
            publisher=self.publisher or None,
            created=self.created,
            updated=self.updated,
        )


class PubsubEvicted(models.Model):
    """An item that the service has but the cache does not. Its id and position keep pages exact.

    Without a `reason` the item was evicted, and reads fetch it from the service. With a `reason` the item is left out:
    it cannot be stored, and reads do not ask for it.
    """

    node = models.ForeignKey(PubsubNode, on_delete=models.CASCADE, related_name="evicted")
    name = models.TextField()
    position = models.BigIntegerField()
    created = models.DateTimeField()
    updated = models.DateTimeField()
    reason = models.TextField(blank=True, default="")
    revision = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = _("evicted item")
        verbose_name_plural = _("evicted items")
        constraints = [models.UniqueConstraint(fields=["node", "name"], name="pubsubcache_evicted_unique")]
        indexes = [
            models.Index(fields=["node", "position"], name="pubsubcache_evicted_position"),
            models.Index(fields=["node", "position"], condition=~models.Q(reason=""), name="pubsubcache_left_out"),
        ]

    def __str__(self) -> str:
        return self.name


class PubsubTombstone(models.Model):
    """An item retracted during a full sync. A page requested before the retraction must not restore it."""

    node = models.ForeignKey(PubsubNode, on_delete=models.CASCADE, related_name="tombstones")
    name = models.TextField()
    revision = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "name"], name="pubsubcache_tombstone_unique")]

    def __str__(self) -> str:
        return self.name
