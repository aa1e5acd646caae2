"""Pages of tables that may be too large to count."""

from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.db import connections
from django.utils.translation import gettext as _

from pubsubcache.admin.display import number

CAP = 10_000  # matches counted, at most; also from where on an estimate will do


class LargeTablePaginator(Paginator[Any] if hasattr(Paginator, "__class_getitem__") else Paginator):  # type: ignore[misc]
    """Counts exactly where that is cheap: SQLite's whole table, and up to `CAP` matches of a filter.

    PostgreSQL's whole table is estimated from its statistics once it is larger than `CAP`. `about` says
    what the number of `count` is: "" exact, "about" an estimate, "more than" a count that was stopped.
    """

    about = ""

    @cached_property
    def count(self) -> int:
        """The number of rows, see the class."""
        rows = self.object_list
        if rows.query.where or rows.query.distinct:
            found: int = rows.order_by().values("pk")[: CAP + 1].count()
            if found > CAP:
                self.about = "more than"
            return min(found, CAP)
        if (estimate := self._estimate()) > CAP:
            self.about = "about"
            return estimate
        return int(rows.count())

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
        """The number of rows in words."""
        count = number(self.count)
        if self.about == "about":
            return _("about %(count)s") % {"count": count}
        if self.about == "more than":
            return _("more than %(count)s") % {"count": count}
        return count
