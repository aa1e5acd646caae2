"""Analysers decide which nodes are kept in sync and how their items are parsed.

Any installed app can register its own in a module called `pubsub_analysers`:

    from pubsubcache.analysers import register_analyser

    register_analyser(name="recipes", type="recipe", node="urn:example:recipes", to_sync=True, parser=parse)
"""

from pubsubcache.analysers.base import Analyser, Analysis
from pubsubcache.analysers.registry import AnalyserRegistry, register_analyser, registry

__all__ = ["Analyser", "AnalyserRegistry", "Analysis", "register_analyser", "registry"]
