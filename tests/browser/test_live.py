"""Test in a real browser that pages of the admin follow what happens, without a reload."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from project.sample.process import free_port
from pubsubcache.models import Account, PubsubNode
from pubsubcache.store import in_thread
from pubsubcache.store.nodes import get_or_create_node
from tests.acceptance.site import Site, entry, make_node, publish_many
from tests.admin_data import PASSWORD, account, node, superuser
from tests.browser.test_admin import Visitor
from tests.servers.chromium import describe_page
from tests.servers.xmpp import TestProsody

TIMEOUT = 60


class Watcher(Visitor):
    """A user who waits until an open page shows something."""

    def see(self, selector: str, text: str) -> None:
        """Wait until an element shows a text."""
        shown = "return document.querySelector(arguments[0])?.innerText.includes(arguments[1])"
        self._await(lambda browser: browser.execute_script(shown, selector, text), f"{text!r} in {selector}")

    def mark(self) -> None:
        """Mark the page, so that `is_marked` tells whether it was loaded again."""
        self.browser.execute_script("window.isMarked = true")

    def is_marked(self) -> bool:
        return bool(self.browser.execute_script("return window.isMarked === true"))

    def polls(self) -> int:
        """Return how often the page asked for the version."""
        names = "return performance.getEntriesByType('resource').filter(entry => entry.name.includes('poll=')).length"
        return int(self.browser.execute_script(names))

    def _await(self, condition: Callable[[Chrome], Any], what: str) -> None:
        wait = WebDriverWait(self.browser, TIMEOUT, poll_frequency=0.05)
        wait.until(condition, f"The page does not show {what}. {describe_page(self.browser)}")


def session_of_superuser() -> str:
    """Return a session of a new superuser. The server of the test cannot check the quick hashes of passwords."""
    return superuser().cookies["sessionid"].value


async def test_pages_show_a_sync_and_a_published_item_without_reload(
    prosody: TestProsody, live_database: None, browser: Chrome, client: Any, start_manage: Any
) -> None:
    prosody.start()
    site = Site(prosody)
    owner = await site.add_account(enabled=False)
    bob = await client(prosody)
    address = await make_node(bob, prosody)
    await publish_many(bob, address, 12)
    made = await in_thread(get_or_create_node)(site.jid, address, by_hand=True)
    session = await in_thread(session_of_superuser)()
    port = free_port()
    server = await in_thread(start_manage)("pubsub_serve", "--bind", f"127.0.0.1:{port}", port=port)
    visitor = Watcher(browser, f"http://127.0.0.1:{port}")

    def open_node() -> None:
        visitor.open("/admin/login/")
        browser.add_cookie({"name": "sessionid", "value": session})
        visitor.open(f"/admin/pubsubcache/pubsubnode/{made.pk}/change/")
        assert "waiting The account is disabled." in visitor.text(".field-state .readonly")
        visitor.mark()

    await asyncio.to_thread(open_node)
    await in_thread(Account.objects.filter(pk=owner.pk).update)(enabled=True)

    def watch_the_sync() -> None:
        visitor.see(".field-state", "followed")
        visitor.see(".field-content", "12")
        assert visitor.is_marked()
        assert visitor.polls() == 0
        visitor.open(f"/admin/pubsubcache/pubsubitem/?node__id__exact={made.pk}")
        visitor.mark()

    await asyncio.to_thread(watch_the_sync)
    await bob.publish(address, entry("Fresh from the press"), "press")

    def watch_the_item() -> None:
        visitor.see("#psc-new-items", "1 new item. Show it")
        assert visitor.is_marked()
        assert "Fresh from the press" not in visitor.text("#result_list")
        visitor.follow("1 new item")
        assert "Fresh from the press" in visitor.text("#result_list")
        errors = [one for one in browser.get_log("browser") if one["level"] == "SEVERE"]
        assert [one for one in errors if "favicon" not in one["message"]] == []

    await asyncio.to_thread(watch_the_item)
    await asyncio.to_thread(server.stop)
    assert server.exit_code == 0
    assert "graceful" not in server.log_tail(), "the open page delayed the end of the server"


@pytest.mark.django_db(transaction=True)
def test_pages_poll_a_server_that_does_not_stream(browser: Chrome, live_server: Any) -> None:
    User.objects.create_superuser("admin", password=PASSWORD)
    visitor = Watcher(browser, live_server.url)
    of = node(account(), "blog")
    node(of.account, "tickets")
    visitor.log_in("admin")
    visitor.open("/admin/pubsubcache/pubsubnode/")
    row = f"#result_list tr:has(input[value='{of.pk}'])"
    assert "waiting" in visitor.text(row)
    box = visitor.find(f"{row} input")
    box.click()
    visitor.mark()
    running = {"sync_owner": "somebody", "sync_heartbeat": timezone.now(), "sync_state": "IN_PROGRESS"}
    PubsubNode.objects.filter(pk=of.pk).update(sync_done=30, sync_total=90, **running)
    visitor.see(row, "30 of 90 items read")
    new = node(of.account, "another")
    PubsubNode.objects.filter(pk=of.pk).update(sync_done=60)
    visitor.see(row, "60 of 90 items read")
    visitor.see(f"#result_list tr:has(input[value='{new.pk}'])", "another")
    assert visitor.is_marked()
    assert visitor.polls() > 0
    # The reader's own choices are kept, on the same row.
    assert box.is_selected()
    assert visitor.browser.switch_to.active_element == box
    assert "selected" in visitor.find(row).get_attribute("class")
    assert visitor.text(".action-counter").startswith("1 of 2")
    Session.objects.all().delete()
    visitor.see("[data-psc-topics]", "This page is no longer updated. Reload it")
