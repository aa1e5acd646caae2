"""Reads the decisions of staff on the nodes of each analyser. `nodes.choose_analyser` writes them."""

from pubsubcache.models import AnalyserChoice


def choices() -> dict[str, bool]:
    """Return the decisions by analyser name. Analysers without a decision are omitted."""
    made = AnalyserChoice.objects.filter(to_sync__isnull=False).values_list("analyser", "to_sync")
    return {name: bool(to_sync) for name, to_sync in made}


def locked_choice(analyser: str) -> AnalyserChoice:
    """Return the decision for an analyser, locked until the transaction ends.

    The lock makes sure that nodes analysed during a change of the decision follow it. To avoid deadlocks, lock the
    decision before any nodes.
    """
    choice, _ = AnalyserChoice.objects.select_for_update().get_or_create(analyser=analyser)
    return choice
