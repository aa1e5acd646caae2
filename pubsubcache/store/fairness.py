"""Queries that are fair to services: none hides the others, however much work it makes.

A service counts by its domain, as for the requests of a session: it may have a PEP service for each of its users.
"""

from collections.abc import Collection
from typing import Any

from django.db.models import Case, QuerySet, Value, When
from django.db.models.functions import StrIndex, Substr


def with_domain(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Annotate rows that have a `service` with its `domain`."""
    annotated: QuerySet[Any] = rows.annotate(domain=Substr("service", StrIndex("service", Value("@")) + 1))
    return annotated


def besides(rows: QuerySet[Any], domains: Collection[str]) -> QuerySet[Any]:
    """Return the rows of services outside `domains`."""
    return with_domain(rows).exclude(domain__in=sorted(domains)) if domains else with_domain(rows)


def served_last(domains: Collection[str]) -> Case:
    """Return an ordering that puts rows of services of `domains`, annotated with their domain, last."""
    return Case(When(domain__in=sorted(domains), then=Value(1)), default=Value(0))
