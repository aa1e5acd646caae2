"""Test that the cache equals the service after any history of changes, faults and restarts.

`make oracle EXAMPLES=200` plays more histories; `make oracle HISTORY=file` replays one. See docs/convergence.md.
"""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from pubsubcache.analysers import Analyser, registry
from pubsubcache.models import node
from pubsubcache.parsers import ParseContext
from pubsubcache.syncing import notifications
from pubsubcache.worker import keeper
from tests.oracle.steps import Step, final_forms, histories
from tests.oracle.world import LEASE, open_world
from tests.servers.xmpp import XmppServer

pytestmark = [pytest.mark.both_databases, pytest.mark.every_server]

EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "10"))
SEED = int(os.environ.get("ORACLE_SEED", "1"))
REPEAT = int(os.environ.get("ORACLE_REPEAT", "1"))  # for a history that does not fail every time
HISTORY = os.environ.get("ORACLE_HISTORY", "")
FOUND = Path(__file__).parent / "histories"
SHRINK = (Phase.shrink,) if os.environ.get("ORACLE_SHRINK") else ()


@pytest.fixture
def lively(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set small pages and short delays, so that short histories cover the same cases as long ones."""
    settings.PUBSUBCACHE_PAGE_SIZE = 3
    settings.PUBSUBCACHE_RETRY_DELAY = 0.2
    settings.PUBSUBCACHE_RECONNECT_MAX_DELAY = 0.5
    settings.PUBSUBCACHE_LEASE_TIMEOUT = LEASE
    settings.PUBSUBCACHE_MAX_NODE_ITEMS = 300
    monkeypatch.setattr(notifications, "BATCH_SIZE", 5)
    monkeypatch.setattr(keeper, "POLL_INTERVAL", 0.2)
    monkeypatch.setattr(node, "CLAIM_LEASES", 2)
    with registry.temporarily(slow_microblog(), replace=True):
        yield


def slow_microblog() -> Analyser:
    """Return the analyser of blogs with a slow parser, so that notifications overtake pages."""
    microblog = registry.get("microblog")
    assert microblog is not None

    async def parse(item: Any, context: ParseContext) -> Any:
        await asyncio.sleep(0.003)
        return microblog.parser(item, context)  # type: ignore[misc]

    return replace(microblog, parser=parse)


@pytest.fixture(params=[True, False], ids=["resumption", "without resumption"])
def oracle_server(request: pytest.FixtureRequest, xmpp_server: XmppServer) -> XmppServer:
    """Each of the XMPP servers in turn, with and without resumption of streams."""
    if request.param:
        return xmpp_server
    start: Callable[[str], XmppServer] = request.getfixturevalue("_without_resumption")
    return start(xmpp_server.name)


@pytest.fixture
def replayed() -> dict[str, Any]:
    """The history to replay, as printed by a failed run."""
    replayed: dict[str, Any] = json.loads(Path(HISTORY).read_text())
    return replayed


if HISTORY:

    async def test_this_history(
        oracle_server: XmppServer, live_database: None, lively: None, tmp_path: Path, replayed: dict[str, Any]
    ) -> None:
        for _ in range(REPEAT):
            async with open_world(oracle_server, tmp_path) as world:
                await world.play(**replayed)

else:

    @pytest.mark.parametrize(
        "found", [pytest.param(path.read_text(), id=path.stem) for path in sorted(FOUND.glob("*"))]
    )
    async def test_histories_that_were_found(
        oracle_server: XmppServer, live_database: None, lively: None, tmp_path: Path, found: str
    ) -> None:
        """Each of these histories has ended in a divergence at least once."""
        async with open_world(oracle_server, tmp_path) as world:
            await world.play(**json.loads(found))

    @seed(SEED)
    @settings(
        max_examples=max(1, EXAMPLES // 2),  # each server runs it twice
        deadline=None,
        database=None,
        phases=(Phase.generate, *SHRINK),
        suppress_health_check=list(HealthCheck),
    )
    @given(history=histories, forms=final_forms)
    async def test_any_history(
        oracle_server: XmppServer,
        live_database: None,
        lively: None,
        tmp_path: Path,
        history: list[Step],
        forms: list[dict[str, Any]],
    ) -> None:
        async with open_world(oracle_server, tmp_path) as world:
            await world.play(history, forms)
