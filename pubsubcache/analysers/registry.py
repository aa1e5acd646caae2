"""Registry of analysers, in the order of registration."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, overload

from pubsubcache.analysers.base import Analyser, Parser

RULE = 2  # version of the rule by which `matching` chooses an analyser


class AnalyserRegistry:
    """Analysers by name, in the order of registration. The first one that matches a node is used."""

    def __init__(self) -> None:
        self._by_name: dict[str, Analyser] = {}

    def register(self, analyser: Analyser) -> Analyser:
        """Add an analyser.

        Raises:
            ValueError: Its name is already registered.
        """
        if analyser.name in self._by_name:
            raise ValueError(f"An analyser named {analyser.name!r} is already registered.")
        self._by_name[analyser.name] = analyser
        return analyser

    def get(self, name: str) -> Analyser | None:
        """Return an analyser, or None if no app registers it."""
        return self._by_name.get(name)

    def all(self) -> list[Analyser]:
        """Return all analysers in the order of registration."""
        return list(self._by_name.values())

    def fingerprint(self) -> str:
        """Return a hash that changes whenever a node may match a different analyser."""
        known = [[a.name, a.type, a.node, a.namespace, a.to_sync] for a in self._by_name.values()]
        return hashlib.sha256(json.dumps([RULE, *known]).encode()).hexdigest()

    @contextmanager
    def temporarily(self, *analysers: Analyser, replace: bool = False) -> Iterator[None]:
        """Register analysers for the duration of a `with` block, for tests; with `replace`, no others."""
        before = dict(self._by_name)
        if replace:
            self._by_name.clear()
        try:
            for analyser in analysers:
                self.register(analyser)
            yield
        finally:
            self._by_name = before


registry = AnalyserRegistry()


@overload
def register_analyser(analyser: Analyser, /) -> Analyser: ...
@overload
def register_analyser(*, parser: Parser, **options: Any) -> Analyser: ...
@overload
def register_analyser(**options: Any) -> Any: ...


def register_analyser(analyser: Analyser | None = None, /, **options: Any) -> Any:
    """Register an analyser.

    Without a parser, the result can be used to decorate the parser:

        @register_analyser(name="recipes", type="recipe", namespace="urn:example:recipe")
        def parse(item, context): ...

    Args:
        analyser: An `Analyser`. If it is omitted, one is created from `options`.
        options: Arguments of `Analyser`.

    Returns:
        The analyser, or a decorator for its parser.

    Raises:
        ValueError: An option is missing or invalid, or the name is already registered.
        TypeError: An option is unknown.
    """
    if analyser is not None:
        if not isinstance(analyser, Analyser) or options:
            raise TypeError("register_analyser takes either an Analyser or keyword arguments.")
        return registry.register(analyser)
    for required in ("name", "type"):
        if required not in options:
            raise ValueError(f"An analyser needs a {required}.")
    registered = registry.register(Analyser(**options))
    return registered if registered.parser else _Decorator(registered)


class _Decorator:
    """Wraps an analyser without a parser. Calling it with a function sets the parser."""

    def __init__(self, analyser: Analyser) -> None:
        self.analyser = analyser

    def __getattr__(self, name: str) -> Any:
        return getattr(self.analyser, name)

    def __call__(self, parser: Parser) -> Callable[..., Any]:
        if not (inspect.isroutine(parser) or callable(parser)):
            raise ValueError(f"The parser of the analyser {self.analyser.name!r} must be callable.")
        self.analyser.parser = parser
        return parser
