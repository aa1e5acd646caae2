"""Test the admin in a real browser, from the login to the raw XML of an item, with hostile data."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from selenium.common.exceptions import NoSuchElementException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from pubsubcache.models import Activity, PubsubItem, PubsubNode, SyncRun
from pubsubcache.models.activity import hour_of
from pubsubcache.utils import clock
from tests.admin_data import PASSWORD, SCRIPT, XML, account, item, node
from tests.examples import EXAMPLES
from tests.servers.chromium import PAGE_TIMEOUT, describe_page, loading, open_page

pytestmark = pytest.mark.django_db(transaction=True)

RESULTS = "#changelist .results"


class Visitor:
    """A user of the browser, who follows links by their text, presses buttons and reads."""

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser = browser
        self.address = address

    def open(self, path: str) -> None:
        open_page(self.browser, f"{self.address}{path}")

    def log_in(self, name: str) -> None:
        self.open("/admin/")
        self.find("[name=username]").send_keys(name)
        self.find("[name=password]").send_keys(PASSWORD)
        self.press("[type=submit]")

    def press(self, selector: str) -> None:
        self._click(self.find(selector))

    def follow(self, words: str) -> None:
        self._click(self._find(By.PARTIAL_LINK_TEXT, words))

    def show(self, name: str) -> None:
        """Press the button of a section of the page."""
        buttons = self.browser.find_elements(By.CSS_SELECTOR, ".psc-tabs button")
        next(button for button in buttons if button.text == name).click()

    def search(self, words: str) -> None:
        box = self.find("#searchbar")
        box.clear()
        box.send_keys(words)
        self.press("#changelist-search [type=submit]")

    def find(self, selector: str) -> WebElement:
        return self._find(By.CSS_SELECTOR, selector)

    def cells(self, name: str) -> list[WebElement]:
        """Return the cells of a column."""
        return self.browser.find_elements(By.CSS_SELECTOR, f"#result_list tbody .{name}")

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def overflow(self, selector: str) -> int:
        """Return the number of pixels by which the content of an element is wider than the element."""
        width = "return arguments[0].scrollWidth - arguments[0].clientWidth"
        return int(self.browser.execute_script(width, self.find(selector)))

    @contextmanager
    def window(self, width: int) -> Iterator[None]:
        """Give the window a width in pixels."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            yield
        finally:
            self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def hosts(self) -> set[str]:
        """Return the addresses of the servers that the page has made requests to."""
        names = "return performance.getEntries().map(entry => entry.name).filter(name => name.includes('://'))"
        return {"/".join(name.split("/")[:3]) for name in self.browser.execute_script(names)}

    def problems(self) -> list[str]:
        """Return the errors and warnings in the console of the browser since the last call."""
        entries = self.browser.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def overflows(self) -> list[int]:
        """Return the widths of a window, of a computer and of a phone, that the page does not fit into."""
        found = []
        for width in (1400, 390):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            found += [width] if self.overflow("html") > 0 else []
        self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        return found

    def choose(self, selector: str, words: str) -> None:
        """Open the list of objects behind a field in its window, and choose one by the text of its link."""
        own = self.browser.current_window_handle
        self.find(selector).click()
        wait = WebDriverWait(self.browser, PAGE_TIMEOUT)
        wait.until(lambda browser: len(browser.window_handles) == 2)
        self.browser.switch_to.window(next(name for name in self.browser.window_handles if name != own))
        wait.until(lambda browser: browser.find_elements(By.PARTIAL_LINK_TEXT, words))
        self._find(By.PARTIAL_LINK_TEXT, words).click()
        wait.until(lambda browser: len(browser.window_handles) == 1)
        self.browser.switch_to.window(own)

    def _find(self, by: str, value: str) -> WebElement:
        try:
            return self.browser.find_element(by, value)
        except NoSuchElementException as error:
            raise AssertionError(f"{value!r} is missing. {describe_page(self.browser)}") from error

    def _click(self, element: WebElement) -> None:
        with loading(self.browser):
            element.click()


@pytest.fixture
def visitor(browser: Chrome, live_server: Any) -> Visitor:
    User.objects.create_superuser("admin", password=PASSWORD)
    return Visitor(browser, live_server.url)


@pytest.mark.both_databases
def test_staff_browse_from_the_first_page_to_the_xml_of_an_item(visitor: Visitor) -> None:
    of = node(account(), f"blog {SCRIPT}", sync_state="COMPLETED", type="blog")
    parsed = {"title": "Un été", "body": SCRIPT}
    item(of, "first-post", parsed=parsed, data=XML.replace("Un été", f"Un été {SCRIPT}"), text=SCRIPT)
    visitor.log_in("admin")
    assert "1 stale" in visitor.text("#psc-summary")
    visitor.follow("Nodes")
    assert "stale" in visitor.text("#result_list")
    visitor.follow("blog <script>")
    visitor.press(".object-tools a[href*='pubsubitem']")
    visitor.follow("Un été")
    visitor.show("Parsed JSON")
    assert '"title": "Un été"' in visitor.text(".field-json .psc-json")
    visitor.show("XML")
    assert "<title>Un été" in visitor.text(".field-xml pre")
    assert visitor.text(".field-json .psc-json") == ""
    assert visitor.browser.title != "run"
    assert visitor.browser.find_elements(By.CSS_SELECTOR, "pre script") == []
    assert visitor.problems() == []


def test_staff_synchronise_and_evict_a_node(visitor: Visitor) -> None:
    of = node(account(), "blog", items=2)
    visitor.log_in("admin")
    visitor.open(f"/admin/pubsubcache/pubsubnode/{of.pk}/change/")
    visitor.press(".psc-tool")
    assert "1 node will be synchronised as soon as a worker is running." in visitor.text(".messagelist")
    assert PubsubNode.objects.get().sync_requested is not None
    visitor.follow("PURGE FROM THE CACHE")
    assert "Remove 2 items of 1 node" in visitor.text("#psc-question")
    visitor.press("#content form [type=submit]")
    assert "2 items were removed" in visitor.text(".messagelist")
    assert not PubsubItem.objects.exists()


def test_staff_choose_for_analysers_with_one_form(visitor: Visitor) -> None:
    of = node(account(), "urn:xmpp:microblog:0", items=2, sync_state="COMPLETED", analyser="microblog", type="blog")
    visitor.log_in("admin")
    visitor.follow("Analysers")
    row = "#result_list tr:has([name=choice-microblog])"
    assert "1 stale" in visitor.text(row)
    Select(visitor.find(f"{row} select")).select_by_visible_text("no")
    visitor.press(".submit-row input")
    assert "microblog: 2 items of 1 node" in visitor.text("#content")
    visitor.press("#content form [type=submit]")
    assert "Nodes of microblog are synchronised: no." in visitor.text(".messagelist")
    assert "1 not synchronised" in visitor.text(row)
    assert "registered: yes" in visitor.text(row)
    assert Select(visitor.find(f"{row} select")).first_selected_option.text == "no"
    of.refresh_from_db()
    assert (of.sync_state, of.items.count()) == ("NO_SYNC", 0)
    assert visitor.overflows() == []


def test_staff_try_the_analysers(visitor: Visitor) -> None:
    example = next(one for one in EXAMPLES if one.name == "microblog")
    of = node(account(), "urn:xmpp:microblog:0", analyser="microblog", type="blog")
    item(of, "first", data=example.text)
    visitor.log_in("admin")
    visitor.open("/admin/pubsubcache/analyserchoice/")
    visitor.follow("TRY THE ANALYSERS")
    visitor.find("#id_xml").send_keys("<mood xmlns='http://jabber.org/protocol/mood'><happy/></mood>")
    visitor.press(".submit-row input")
    assert "None of the" in visitor.text("#psc-explanation")
    assert '"mood": "happy"' in visitor.text("#psc-explanation pre")
    visitor.find("#id_xml").clear()
    visitor.choose("#lookup_id_node", "urn:xmpp:microblog:0")
    visitor.press(".submit-row input")
    assert "begins with urn:xmpp:microblog:0" in visitor.text("#psc-explanation")
    assert '"title": "A new pond"' in visitor.text("#psc-explanation pre")
    assert visitor.overflows() == []
    assert visitor.problems() == []


def test_all_pages_work_under_the_policy_and_ask_no_other_host(visitor: Visitor) -> None:
    """The browser reports a script or style that the policy forbids, and whatever else fails, in its console."""
    examples = {one.name: one for one in EXAMPLES}
    of = node(account(), "urn:xmpp:microblog:0", analyser="microblog", type="blog", sync_error="refused")
    post = item(of, "first", parsed=examples["microblog"].parsed(), data=examples["microblog"].text)
    visitor.open("/")
    visitor.log_in("admin")
    user = User.objects.get().pk
    root, app = "/admin/", "/admin/pubsubcache/"
    models = [one._meta.model_name for one in admin.site._registry if one._meta.app_label == "pubsubcache"]
    pages = [
        "/",
        root,
        app,
        *(f"{app}{model}/" for model in models),
        f"{app}account/add/",
        *(f"{app}account/{of.account_id}/{page}/" for page in ("change", "history", "delete")),
        *(f"{app}pubsubnode/{of.pk}/{page}/" for page in ("change", "history", "delete", "purge")),
        f"{app}pubsubitem/{post.pk}/change/",
        f"{app}pubsubitem/?q=pond",
        f"{app}analyserchoice/try/?node={of.pk}",
        f"{root}auth/user/add/",
        *(f"{root}auth/user/{user}/{page}/" for page in ("change", "password")),
        f"{root}auth/group/add/",
        f"{root}password_change/",
    ]
    for page in pages:
        visitor.open(page)
        assert visitor.problems() == [], page
        assert visitor.hosts() == {visitor.address}, page
    visitor.open("/admin/nowhere/")
    assert all("404 (Not Found)" in problem for problem in visitor.problems())
    visitor.follow("Back to the admin")
    visitor.press("#logout-form button")
    assert visitor.problems() == []


@pytest.mark.both_databases
def test_staff_search_items(visitor: Visitor) -> None:
    of = node(account(), "blog", type="blog")
    words = f"A walk in the harbour at night, {SCRIPT} when the lights of all ships are on. " * 3
    item(of, "walk", parsed={"title": "A walk at night"}, text=words)
    item(of, "best", parsed={"title": "Harbour lights"}, text="Harbour lights: the lights of the harbour.")
    item(of, "hills", parsed={"title": "Hills"}, text="Nothing but hills.")
    visitor.log_in("admin")
    visitor.open("/admin/pubsubcache/pubsubitem/")
    visitor.search("harb* lights")
    titles = [cell.text.split("\n")[0] for cell in visitor.browser.find_elements(By.CSS_SELECTOR, "td.field-heading")]
    assert titles == ["Harbour lights", "A walk at night"]
    marks = {mark.text.lower() for mark in visitor.browser.find_elements(By.CSS_SELECTOR, ".psc-snippet mark")}
    assert marks == {"harbour", "lights"}
    assert "<script>" in visitor.text("#result_list")
    assert visitor.browser.title != "run"
    assert visitor.overflow(RESULTS) <= 1
    visitor.search("x" * 600)
    assert "more than 500 characters" in visitor.text(".messagelist")
    visitor.search('"')
    assert "0 items" in visitor.text(".paginator")
    assert visitor.problems() == []


def test_the_lists_fit_the_window(visitor: Visitor) -> None:
    owner = account("a.rather.long.name.of.an.account@subdomain.example.org")
    account("bob@example.org")
    kind = {"type": "blog", "subtype": "comment", "analyser": "microblog"}
    state = {"sync_state": "ERROR", "sync_error": "x" * 300, "service": "pubsub.of.a.long.name.example.org"}
    of = node(owner, "urn:xmpp:microblog:0:comments/" + "9f2c1d44" * 20, **state, **kind)
    item(of, "b5a8e7d0" * 20, parsed={"title": "w" * 300}, publisher="someone@example.org/" + "r" * 300)
    hostile = node(owner, "gpj.\u202etxt" + "W" * 1500, **{**state, "service": "pubsub.sample.test"})
    item(hostile, "i" * 1500, parsed={"title": "T" * 500 + "z" + "\u0301" * 300, "author": "A" * 500})
    visitor.log_in("admin")
    pages = [*(f"{model}/" for model in ("account", "pubsubnode", "pubsubitem")), f"pubsubnode/{hostile.pk}/delete/"]
    for width in (1400, 390):
        with visitor.window(width):
            for page in pages:
                visitor.open(f"/admin/pubsubcache/{page}")
                assert visitor.overflow("html") <= 0, page
                assert "delete" in page or visitor.overflow(RESULTS) <= 1, page
            visitor.open("/admin/pubsubcache/pubsubnode/")
            service = next(cell for cell in visitor.cells("field-place") if "pubsub.sample.test" in cell.text)
            assert "pubsub.sample.test" in service.text.split("\n")
            assert visitor.find("#changelist-filter details").get_attribute("open") is None


def test_staff_filter_items_by_tag(visitor: Visitor) -> None:
    of = node(account(), "blog")
    item(of, "one", parsed={"title": "Frost", "tags": ["winter"]})
    item(of, "two", parsed={"title": "Sun"})
    visitor.log_in("admin")
    visitor.open("/admin/pubsubcache/pubsubitem/")
    visitor.find("[data-filter-title=tag] summary").click()
    visitor.find("[name=tag]").send_keys("winter")
    visitor.press("[data-filter-title=tag] button")
    assert [cell.text.split("\n")[0] for cell in visitor.cells("field-heading")] == ["Frost"]
    visitor.search("sun")
    assert "Nothing found for sun" in visitor.text(".psc-help")
    visitor.follow("without filters")
    assert [cell.text.split("\n")[0] for cell in visitor.cells("field-heading")] == ["Sun"]


def test_staff_read_a_post_and_an_event_without_requests_to_other_hosts(visitor: Visitor) -> None:
    examples = {one.name: one for one in EXAMPLES}
    picture = '<img src="https://pics.invalid/pond.png" alt="The pond"/>'
    post = {**examples["microblog"].parsed(), "content_xhtml": f"<div><p>Frogs {picture}</p><script>x</script></div>"}
    of = node(account(), analyser="microblog", type="blog")
    first = item(of, "first", parsed=post, position=1)
    item(of, "second", parsed={**post, "title": "Newts"}, position=2)
    calendar = node(of.account, "urn:xmpp:calendar-events:0", analyser="calendar-events", type="event")
    fair = examples["calendar-events"]
    event = item(calendar, "fair", parsed=fair.parsed(), data=fair.text)
    visitor.log_in("admin")
    visitor.open(f"/admin/pubsubcache/pubsubitem/{event.pk}/change/")
    assert visitor.text(".psc-item h2") == "Plant fair"
    assert "confirmed" in visitor.text(".psc-by")
    assert "The old nursery" in visitor.text(".psc-facts")
    assert visitor.hosts() == {visitor.address}
    visitor.open(f"/admin/pubsubcache/pubsubitem/{first.pk}/change/")
    assert visitor.text(".psc-item h2") == "A new pond"
    assert visitor.text(".psc-picture") == "The pond"
    assert visitor.text(".field-json .psc-json") == ""  # closed
    assert visitor.browser.find_elements(By.CSS_SELECTOR, ".psc-item img") == []
    assert visitor.hosts() == {visitor.address}
    assert visitor.overflows() == []
    assert visitor.problems() == []
    visitor.find(".psc-picture").click()
    assert visitor.find(".psc-item img").get_attribute("src") == "https://pics.invalid/pond.png"
    visitor.follow("NEXT")
    assert visitor.text(".psc-item h2") == "Newts"


@pytest.mark.parametrize("width", [1400, 390])
def test_the_dashboard_is_readable(visitor: Visitor, width: int) -> None:
    now = clock.now()
    bad = account("a.rather.long.name.of.an.account@subdomain.example.org", status="auth_failed", status_detail=SCRIPT)
    of = node(bad, "9f2c1d44" * 40, service="x" * 300 + ".example.org", sync_state="ERROR", sync_error="x" * 300)
    item(of, "one", parsed={"title": f"Frogs {SCRIPT} " + "w" * 300}, parse_error="why")
    running = {"kind": "full", "reason": "first", "started": now}
    SyncRun.objects.create(account=bad, node=of, **running, outcome="failed", error=f"{SCRIPT} {'x' * 300}")
    at_work = node(bad, "big", sync_owner="one", sync_heartbeat=now, sync_done=1, sync_total=4)
    SyncRun.objects.create(account=bad, node=at_work, **running)
    for ago in range(24):
        Activity.objects.create(
            account=bad, hour=hour_of(now) - timedelta(hours=ago), hits=10 ** (ago % 12), stored=ago
        )
    visitor.log_in("admin")
    with visitor.window(width):
        for page in ("/admin/", "/admin/pubsubcache/"):
            visitor.open(page)
            assert visitor.overflow("html") <= 0
            assert "No worker is running" in visitor.text("#psc-headline")
            assert "Check the JID" in visitor.text("#psc-accounts")
        assert visitor.text("#psc-newest li a").startswith("Frogs <script>")
        assert visitor.find("#psc-running progress").get_attribute("value") == "1"
        bars = visitor.browser.find_elements(By.CSS_SELECTOR, "#psc-chart-answers .psc-bar-hits")
        assert len(bars) == 24
        assert all(bar.size["height"] >= 1 and bar.size["width"] >= 1 for bar in bars)
        assert visitor.text("#psc-chart-answers td") == ""  # closed
        visitor.find("#psc-chart-answers summary").click()
        assert visitor.text("#psc-chart-answers td") == "1"
        for section in visitor.browser.find_elements(By.CSS_SELECTOR, ".psc-dashboard > *"):
            assert visitor.browser.execute_script("return arguments[0].scrollWidth", section) <= section.size["width"]
        assert visitor.browser.title != "run"
    errors = [entry for entry in visitor.browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [entry for entry in errors if "favicon" not in entry["message"]] == []
    visitor.follow("No worker is running")
    assert "login refused" in visitor.text("#result_list")


def test_changing_the_host_requires_the_password(visitor: Visitor) -> None:
    of = account(password="stored")
    visitor.log_in("admin")
    visitor.open(f"/admin/pubsubcache/account/{of.pk}/change/")
    assert "Required to change the connection." in visitor.text(".field-new_password .help")
    assert "only commands can set it" in visitor.text(".field-ca_file .help")
    visitor.find("[name=host]").send_keys("xmpp.example.org")
    visitor.press("[name=_save]")
    assert "Enter the password again" in visitor.text(".field-new_password .errorlist")
    assert visitor.find("[name=host]").get_attribute("value") == "xmpp.example.org"
    visitor.find("[name=new_password]").send_keys("entered")
    visitor.press("[name=_save]")
    of.refresh_from_db()
    assert (of.host, of.password) == ("xmpp.example.org", "entered")


def test_connection_is_tested_without_leaving_the_form(visitor: Visitor, unused_tcp_port: int) -> None:
    visitor.log_in("admin")
    visitor.open("/admin/pubsubcache/account/add/")
    for name, value in {"jid": "alice@localhost", "host": "127.0.0.1", "port": unused_tcp_port}.items():
        visitor.find(f"[name={name}]").send_keys(str(value))
    visitor.find("[name=new_password]").send_keys("entered")
    visitor.find("[data-psc-test]").click()
    outcome = "return document.querySelector('#psc-tested').innerText"
    WebDriverWait(visitor.browser, 30).until(lambda browser: browser.execute_script(outcome))
    assert "Connection refused" in visitor.text("#psc-tested")
    assert visitor.find("[name=new_password]").get_attribute("value") == "entered"
    assert visitor.browser.current_url.endswith("/account/add/")
    assert visitor.hosts() == {visitor.address}
    assert visitor.browser.execute_script("return document.activeElement.id") == "psc-tested"
    visitor.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        visitor.find("[data-psc-test]").click()
        shown = "#psc-tested [data-psc-reload]"
        WebDriverWait(visitor.browser, 30).until(lambda browser: browser.find_elements(By.CSS_SELECTOR, shown))
        assert "Enter the password again" in visitor.text(shown)
        assert visitor.browser.current_url.endswith("/account/test/")
    finally:
        visitor.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
