"""Paginator for tables that may be too large to count."""

from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.db import connections
from django.db.models.sql.where import WhereNode
from django.utils.translation import gettext as _

from pubsubcache.admin.display import number

CAP = 10_000  # maximum number of matches to count; larger tables are estimated


class LargeTablePaginator(Paginator[Any] if hasattr(Paginator, "__class_getitem__") else Paginator):  # type: ignore[misc]
    """Paginator that counts exactly only where that is cheap.

    With a filter, it counts up to `CAP` matches. Without one, it counts the whole table on SQLite; on PostgreSQL it
    uses the estimate of the statistics for tables larger than `CAP`.

    Attributes:
        cap: Maximum number of matches to count with a filter.
        about: Kind of `count`: "" if it is exact, "about" for an estimate, "more than" if counting stopped.
    """

    about = ""
    cap = CAP

    def __init__(self, *args: Any, cap: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cap = CAP if cap is None else cap

    @cached_property
    def count(self) -> int:
        """Number of rows; see the class."""
        rows = self.object_list
        if rows.query.where or rows.query.distinct:
            found: int = rows.order_by().values("pk")[: self.cap + 1].count()
            if found > self.cap:
                self.about = "more than"
            return min(found, self.cap)
        if (estimate := self._estimate()) > CAP:
            self.about = "about"
            return estimate
        return int(rows.count())

    def take_count(self, number: int) -> None:
        """Use a number of rows that was counted up to `cap` + 1 before, instead of counting again."""
        self.__dict__["count"] = min(number, self.cap)
        if number > self.cap:
            self.about = "more than"

    def _estimate(self) -> int:
        connection = connections[self.object_list.db]
        if connection.vendor != "postgresql":
            return 0
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)",
                [connection.ops.quote_name(self.object_list.model._meta.db_table)],
            )
            row = cursor.fetchone()
        return row[0] if row else 0

    @property
    def label(self) -> str:
        """Number of rows for display."""
        count = number(self.count)
        if self.about == "about":
            return _("about %(count)s") % {"count": count}
        if self.about == "more than":
            return _("more than %(count)s") % {"count": count}
        return count


class TwoStepPaginator(LargeTablePaginator):
    """Paginator that reads the primary keys of a page first and then their rows.

    Databases sort everything that matches if no index has the order, and whole rows are large.
    """

    def page(self, number: Any) -> Any:
        """Return a page whose rows are in a list."""
        page = super().page(number)
        if "rank" in self.object_list.query.annotations:  # the search would run twice
            return page
        pks = list(page.object_list.values_list("pk", flat=True))
        found = self.object_list.order_by()
        found.query.where = WhereNode()  # the keys match already
        rows = {row.pk: row for row in found.filter(pk__in=pks)}
        page.object_list = [rows[pk] for pk in pks if pk in rows]
        return page
