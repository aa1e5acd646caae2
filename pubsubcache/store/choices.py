"""What staff want of the nodes of each analyser; see `nodes.choose_analyser` for what comes of it."""

from pubsubcache.models import AnalyserChoice


def choices() -> dict[str, bool]:
    """Return the choices by the analysers' names; those without one are not among them."""
    made = AnalyserChoice.objects.filter(to_sync__isnull=False).values_list("analyser", "to_sync")
    return {name: bool(to_sync) for name, to_sync in made}


def locked_choice(analyser: str) -> AnalyserChoice:
    """Return the choice for an analyser, locked until the transaction ends: before nodes are, for one order of locks.

    So that a node which is analysed while the choice is made gets the one or the other, and never stays behind.
    """
    choice, _ = AnalyserChoice.objects.select_for_update().get_or_create(analyser=analyser)
    return choice
