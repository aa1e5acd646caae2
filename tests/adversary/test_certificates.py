"""Test certificates that expire or change while sessions are open."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.acceptance.site import Site, cached_node, entry
from tests.servers.proxy import Proxy


@pytest.fixture
async def proxied(xmpp_server: Any, live_database: None) -> AsyncIterator[tuple[Site, Proxy]]:
    """A site whose worker connects through a proxy; the server's own certificate is restored afterwards."""
    own = xmpp_server.certificates.key.read_bytes() + xmpp_server.certificates.certificate.read_bytes()
    async with Proxy(xmpp_server.host, xmpp_server.port) as proxy:
        site = Site(xmpp_server)
        await site.add_account(port=proxy.port)
        try:
            async with site.working():
                yield site, proxy
        finally:
            xmpp_server.present_certificate(own)


async def test_certificate_is_rotated_under_a_live_session(proxied: tuple[Site, Proxy], client: Any) -> None:
    site, proxy = proxied
    server: Any = site.server
    bob = await client(server)
    address = await cached_node(site, bob, 2)
    started = (await site.account()).session_started
    server.present_certificate(server.certificates.issue([server.domain, server.pubsub]))
    await bob.publish(address, entry("New"), "new")
    await site.converged(address)
    assert (await site.account()).session_started == started
    proxy.cut()
    await bob.publish(address, entry("Newer"), "newer")
    await site.converged(address)


async def test_expired_certificate_keeps_sessions_and_prevents_new_ones(
    proxied: tuple[Site, Proxy], client: Any
) -> None:
    site, proxy = proxied
    server: Any = site.server
    bob = await client(server)
    address = await cached_node(site, bob, 2)
    server.present_certificate(server.certificates.issue([server.domain], timedelta(hours=-1)))
    await bob.publish(address, entry("New"), "new")
    await site.converged(address)

    async def refused() -> bool:
        account = await site.account()
        if account.status == "online":
            proxy.cut()  # until the server presents the certificate
        return account.status == "error" and "expired" in account.status_detail

    await site.until(refused)
    page = await site.read(address)
    assert page.stale
    assert [item.id for item in page.items] == ["item-0", "item-1", "new"]
    server.present_certificate(server.certificates.issue([server.domain, server.pubsub]))
    await site.until(site.is_online)
    await site.converged(address)
