"""Queries that treat services fairly, so that one with much work does not delay the others.

Services count by domain, as they do for the requests of a session, because a domain may have a PEP service for each of
its users.
"""

from collections.abc import Collection
from typing import Any

from django.db.models import Case, QuerySet, Value, When
from django.db.models.functions import StrIndex, Substr


def with_domain(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Annotate rows that have a `service` with the domain of that service, as `domain`."""
    annotated: QuerySet[Any] = rows.annotate(domain=Substr("service", StrIndex("service", Value("@")) + 1))
    return annotated


def outside_domains(rows: QuerySet[Any], domains: Collection[str]) -> QuerySet[Any]:
    """Return the rows of services outside `domains`, annotated with their domain."""
    return with_domain(rows).exclude(domain__in=sorted(domains)) if domains else with_domain(rows)


def served_last(domains: Collection[str]) -> Case:
    """Return an ordering that puts rows of `domains` last. It needs the annotation of `with_domain`."""
    return Case(When(domain__in=sorted(domains), then=Value(1)), default=Value(0))
