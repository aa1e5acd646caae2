"""Exports and imports beside real servers and databases, by processes of their own."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from pubsubcache import cache
from pubsubcache.exchange.records import EXTRA
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.store import in_thread
from pubsubcache.store.extra import extra_of
from tests.acceptance.site import Site, entry, make_node, publish_many
from tests.servers.xmpp import XmppServer


@pytest.mark.parametrize("form", ["jsonl", "xml"])
async def test_what_is_imported_converges_to_the_service(
    xmpp_server: XmppServer, live_database: None, client: Any, manage: Callable[..., Any], form: str
) -> None:
    site = Site(xmpp_server)
    await site.add_account()
    bob = await client(xmpp_server)
    address = await make_node(bob, xmpp_server)
    await publish_many(bob, address, 30)
    async with site.working():
        await site.cached(address)
        node = await site.node(address)
        assert node is not None
        assert extra_of(node).keys() <= EXTRA.keys()
    exported = await in_thread(manage)("pubsub_export", "-O", form, "-a", site.jid, "-n", address.name)
    assert exported.returncode == 0, exported.stderr
    assert exported.stderr == "1 node with 30 items exported.\n"
    await in_thread(manage)("pubsub_reset", "--noinput", "-a", site.jid, "--keep-subscriptions")
    await bob.retract(address, "item-7")
    await bob.publish(address, entry("Edited"), "item-3")
    await bob.publish(address, entry("New"), "new")

    imported = await in_thread(manage)("pubsub_import", stdin=exported.stdout)
    assert imported.returncode == 0, imported.stderr
    page = await site.read(address)
    assert (page.origin, page.stale, len(page.items)) == ("cache", True, 30)
    async with site.working():
        await site.converged(address)
        node = await site.in_sync(address)
        assert node.subscribed
        await bob.publish(address, entry("Newer"), "newer")
        await site.converged(address)
        assert (await site.names(address))[-1] == "newer"


@pytest.mark.parametrize("form", ["jsonl", "xml"])
def test_a_pipe_carries_everything_whatever_the_terminal_speaks(
    live_database: None, manage: Callable[..., Any], form: str
) -> None:
    account = Account.objects.create(jid="alice@capulet.example", password="secret")
    words = "Éléphant 🐘 \u2028 \x85"
    data = f'<item xmlns="http://jabber.org/protocol/pubsub" id="é"><ö xmlns="urn:x">{words}</ö></item>'
    node = PubsubNode.objects.create(
        account=account, service="x.example", name="ñ", sync_state="COMPLETED", checked_at=timezone.now(), item_count=1
    )
    PubsubItem.objects.create(node=node, name="é", data=data, parsed={"ö": words}, text=words)
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    exported = manage("pubsub_export", "-O", form, env=ascii_only)
    assert exported.returncode == 0, exported.stderr
    again = manage("pubsub_import", "--replace", "-O", "json", stdin=exported.stdout, env=ascii_only)
    assert again.returncode == 0, again.stderr
    item = PubsubItem.objects.exclude(node_id=node.pk).get()
    assert (item.name, item.data, item.parsed, item.text) == ("é", data, {"ö": words}, words)
    assert cache.freshness(item.node) is cache.Freshness.MISS
    cut = manage("pubsub_import", "--replace", stdin=exported.stdout[:-20])
    assert (cut.returncode, cut.stdout) == (1, "")
    assert cut.stderr.startswith("CommandError: Line ")
    assert cut.stderr.count("\n") == 1
    assert PubsubItem.objects.get().pk == item.pk
