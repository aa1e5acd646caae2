"""The analysers that were registered, in order."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, overload

from pubsubcache.analysers.base import Analyser, Parser


class AnalyserRegistry:
    """Analysers by name, in the order of their registration; of several that match, the first decides."""

    def __init__(self) -> None:
        self._by_name: dict[str, Analyser] = {}

    def register(self, analyser: Analyser) -> Analyser:
        """Add an analyser. Raises `ValueError` when its name is taken."""
        if analyser.name in self._by_name:
            raise ValueError(f"An analyser named {analyser.name!r} is already registered.")
        self._by_name[analyser.name] = analyser
        return analyser

    def get(self, name: str) -> Analyser | None:
        """Return the analyser `name`, or None when no app registers it (any more)."""
        return self._by_name.get(name)

    def all(self) -> list[Analyser]:
        """Return all analysers in order."""
        return list(self._by_name.values())

    def fingerprint(self) -> str:
        """Return a text that changes when another choice among the analysers could be made."""
        known = [[a.name, a.type, a.node, a.namespace, a.to_sync] for a in self._by_name.values()]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    @contextmanager
    def temporarily(self, *analysers: Analyser, replace: bool = False) -> Iterator[None]:
        """Have `analysers` registered for a while, for tests; with `replace` nothing but them."""
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
    """Register an analyser: a ready one, or one made of `options` (the arguments of `Analyser`).

    Without a parser among the options the answer can be used as a decorator of it:

        @register_analyser(name="recipes", type="recipe", namespace="urn:example:recipe")
        def parse(item, context): ...

    Raises `ValueError` at once when something is missing or wrong or the name is taken, and
    `TypeError` on an unknown option.
    """
    if analyser is not None:
        if not isinstance(analyser, Analyser) or options:
            raise TypeError("register_analyser takes one Analyser, or the options of one by name.")
        return registry.register(analyser)
    for required in ("name", "type"):
        if required not in options:
            raise ValueError(f"An analyser needs a {required}.")
    registered = registry.register(Analyser(**options))
    return registered if registered.parser else _Decorator(registered)


class _Decorator:
    """An analyser without a parser, to be called with the parser or to be left as it is."""

    def __init__(self, analyser: Analyser) -> None:
        self.analyser = analyser

    def __getattr__(self, name: str) -> Any:
        return getattr(self.analyser, name)

    def __call__(self, parser: Parser) -> Callable[..., Any]:
        if not (inspect.isroutine(parser) or callable(parser)):
            raise ValueError(f"The parser of the analyser {self.analyser.name!r} cannot be called.")
        self.analyser.parser = parser
        return parser
