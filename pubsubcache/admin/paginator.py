"""Paginator for tables that may be too large to count."""

from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.db import connections
from django.utils.translation import gettext as _

from pubsubcache.admin.display import number

CAP = 10_000  # maximum number of matches to count; larger tables are estimated


class LargeTablePaginator(Paginator[Any] if hasattr(Paginator, "__class_getitem__") else Paginator):  # type: ignore[misc]
    """Paginator that counts exactly only where that is cheap.

    With a filter, it counts up to `CAP` matches. Without one, it counts the whole table on SQLite; on PostgreSQL it
    uses the estimate of the statistics for tables larger than `CAP`.

    Attributes:
        about: Kind of `count`: "" if it is exact, "about" for an estimate, "more than" if counting stopped.
    """

    about = ""

    @cached_property
    def count(self) -> int:
        """Number of rows; see the class."""
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
        """Number of rows for display."""
        count = number(self.count)
        if self.about == "about":
            return _("about %(count)s") % {"count": count}
        if self.about == "more than":
            return _("more than %(count)s") % {"count": count}
        return count
