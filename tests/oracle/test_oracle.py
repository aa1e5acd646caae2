"""After any history of changes, faults and restarts the cache equals the service.

`make oracle EXAMPLES=200` plays more histories; `make oracle HISTORY=file` plays one again. See docs/convergence.md.
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

pytestmark = pytest.mark.both_databases

EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "10"))
SEED = int(os.environ.get("ORACLE_SEED", "1"))
REPEAT = int(os.environ.get("ORACLE_REPEAT", "1"))  # of a history that does not fail every time
HISTORY = os.environ.get("ORACLE_HISTORY", "")
FOUND = Path(__file__).parent / "histories"
SHRINK = (Phase.shrink,) if os.environ.get("ORACLE_SHRINK") else ()


@pytest.fixture
def lively(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small pages and short waits, so that little data and little time have all that large ones have."""
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
    """The analyser of blogs with a parser that takes its time, in which notifications overtake pages."""
    microblog = registry.get("microblog")
    assert microblog is not None

    async def parse(item: Any, context: ParseContext) -> Any:
        await asyncio.sleep(0.003)
        return microblog.parser(item, context)  # type: ignore[misc]

    return replace(microblog, parser=parse)


@pytest.fixture(params=[True, False], ids=["resumption", "without resumption"])
def oracle_server(request: pytest.FixtureRequest, xmpp_server: XmppServer) -> XmppServer:
    """One XMPP server after the other, first with sessions that can be resumed, then without."""
    if request.param:
        return xmpp_server
    start: Callable[[str], XmppServer] = request.getfixturevalue("_without_resumption")
    return start(xmpp_server.name)


@pytest.fixture
def replayed() -> dict[str, Any]:
    """The history that is to be played again, as a failing run printed it."""
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
        """Each ended in a divergence once, if not every time that it was played."""
        async with open_world(oracle_server, tmp_path) as world:
            await world.play(**json.loads(found))

    @seed(SEED)
    @settings(
        max_examples=max(1, EXAMPLES // 2),  # for each server twice
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
