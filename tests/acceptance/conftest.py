"""Fixtures of the acceptance tests."""

from collections.abc import AsyncIterator

import pytest

from tests.acceptance.site import Site, working_site
from tests.servers.xmpp import XmppServer


@pytest.fixture
async def site(xmpp_server: XmppServer, live_database: None) -> AsyncIterator[Site]:
    """A site with alice's account and a worker that has its session."""
    async with working_site(xmpp_server) as site:
        yield site
