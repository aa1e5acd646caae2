"""Test in a real browser how an operator begins: from a wrong password to a post found by its tag."""

import asyncio
from datetime import timedelta
from typing import Any
from xml.etree.ElementTree import SubElement

from selenium.webdriver import Chrome

from project.sample.process import free_port
from pubsubcache.models import PubsubNode, SyncRun
from pubsubcache.store import in_thread
from pubsubcache.utils import clock
from tests.acceptance.site import ATOM, entry, make_node, publish_many
from tests.browser.test_live import Watcher, session_of_superuser
from tests.servers.xmpp import TestProsody


def record_failure() -> None:
    """Record that the node could not be read last night."""
    night = clock.now() - timedelta(hours=8)
    of = PubsubNode.objects.get()
    fields = {"kind": "full", "reason": "schedule", "outcome": "failed", "error": "the service was asleep"}
    SyncRun.objects.create(account=of.account, node=of, started=night, finished=night, **fields)


async def test_an_operator_mends_an_account_caches_a_node_and_reads_a_post(
    prosody: TestProsody, live_database: None, browser: Chrome, client: Any, start_manage: Any
) -> None:
    prosody.start()
    bob = await client(prosody)
    address = await make_node(bob, prosody)
    await publish_many(bob, address, 5)
    post = entry("Newts at night")
    SubElement(post, f"{{{ATOM}}}category", {"term": "amphibians"})
    await bob.publish(address, post, "newts")
    login = prosody.account_fields("alice")
    session = await in_thread(session_of_superuser)()
    port = free_port()
    folder = {"PUBSUBCACHE_CA_FOLDER": str(prosody.ca_file.parent)}
    server = await in_thread(start_manage)("pubsub_serve", "--bind", f"127.0.0.1:{port}", port=port, env=folder)
    visitor = Watcher(browser, f"http://127.0.0.1:{port}")
    app = "/admin/pubsubcache/"

    def enter_password(password: str) -> None:
        visitor.find("[name=new_password]").clear()
        visitor.find("[name=new_password]").send_keys(password)

    def add_the_account() -> None:
        visitor.open("/admin/login/")
        browser.add_cookie({"name": "sessionid", "value": session})
        visitor.open(f"{app}account/add/")
        for name in ("jid", "host", "port", "ca_file"):
            visitor.find(f"[name={name}]").send_keys(str(login[name]))
        enter_password("wrong")
        visitor.find("[data-psc-test]").click()
        visitor.see("#psc-tested", "does not accept the login")
        visitor.press("[name=_save]")
        visitor.see("#result_list", "login refused")
        visitor.follow(login["jid"])
        assert "enter the password again" in visitor.text(".field-what_to_do")
        enter_password(login["password"])
        visitor.press("[name=_continue]")
        visitor.see(".field-session", "online")

    def cache_the_node() -> None:
        visitor.follow("BROWSE SERVICES")
        visitor.find("#psc-service").clear()
        visitor.find("#psc-service").send_keys(address.service)
        visitor.press(".psc-ask button")
        visitor.press(f"[aria-label='Cache {address.name}']")
        visitor.open(f"{app}pubsubnode/")
        visitor.mark()
        visitor.see("#result_list", "followed")
        visitor.follow(address.name)
        visitor.see(".field-content", "6")

    def read_the_post() -> None:
        visitor.open(f"{app}pubsubitem/?tag=amphibians")
        assert [cell.text.split("\n")[0] for cell in visitor.cells("field-heading")] == ["Newts at night"]
        visitor.follow("Newts at night")
        assert visitor.text(".psc-item h2") == "Newts at night"
        assert "amphibians" in visitor.text(".psc-tags")

    def see_what_failed() -> None:
        visitor.open(app)
        visitor.follow("All failed attempts (1)")
        assert "the service was asleep" in visitor.text("#result_list")
        assert visitor.hosts() == {visitor.address}
        assert visitor.problems() == []

    await asyncio.to_thread(add_the_account)
    await asyncio.to_thread(cache_the_node)
    await asyncio.to_thread(read_the_post)
    await in_thread(record_failure)()
    await asyncio.to_thread(see_what_failed)
    await asyncio.to_thread(server.stop)
    assert server.exit_code == 0
