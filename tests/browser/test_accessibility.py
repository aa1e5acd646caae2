"""Test that the pages of the admin are accessible, on a computer and on a phone, light and dark."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from selenium.webdriver import Chrome

from pubsubcache.models import Activity, Job, SyncRun
from pubsubcache.models.activity import hour_of
from pubsubcache.utils import clock
from tests.admin_data import PASSWORD, account, item, node, online
from tests.browser.test_admin import Visitor
from tests.examples import EXAMPLES

pytestmark = pytest.mark.django_db(transaction=True)

AXE = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
# A fading colour would be taken for a pale one.
STILL = """
const still = new CSSStyleSheet();
still.replaceSync("*, ::before, ::after { transition: none !important; animation: none !important; }");
document.adoptedStyleSheets = [still];
"""
# The bar and the header are Django's. The place of a violation is its element and what is around it.
RUN = """
const done = arguments[0];
const kind = element => [element.localName, ...element.classList].join(".");
const place = element => `${kind(element.parentElement ?? element)} > ${kind(element)}`;
const options = {resultTypes: ["violations"], elementRef: true, iframes: false, preload: false};
axe.run({exclude: [["#nav-sidebar"], ["#header"]]}, options).then(
    found => done(found.violations.flatMap(rule => rule.nodes.map(node => [
        rule.id, place(node.element), node.target.join(" "), node.failureSummary]))),
    error => done([["axe", "", "", String(error)]]));
"""
ACCOUNT_PAGES = ("change", "history", "browse", "subscriptions")
EXAMPLE_NAMES = ("microblog.gallery", "calendar-events", "forms")
LOOKS = ((1400, "light"), (390, "dark"))


class Inspector(Visitor):
    """A visitor who inspects pages with axe."""

    def look(self, width: int, scheme: str) -> None:
        """Give the page a width and a colour scheme."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def violations(self) -> set[tuple[str, ...]]:
        """Return what axe finds on the page: rule, place, selector and reason."""
        found: set[tuple[str, ...]] = set()
        self.browser.execute_script(STILL + AXE)
        for width, scheme in LOOKS:
            self.look(width, scheme)
            found |= {(*one, f"{width} {scheme}") for one in self.browser.execute_async_script(RUN)}
        return found


@pytest.fixture
def inspector(browser: Chrome, live_server: Any) -> Iterator[Inspector]:
    User.objects.create_superuser("admin", password=PASSWORD)
    yield Inspector(browser, live_server.url)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def fill() -> list[str]:
    """Create rows in many states; return the paths of all kinds of pages that show them."""
    now = clock.now()
    good = account(**online())
    bad = account("bob@example.org", status="auth_failed", status_detail="not-authorized")
    running = {"sync_state": "IN_PROGRESS", "sync_owner": "one", "sync_heartbeat": now, "sync_done": 1, "sync_total": 4}
    blog = node(good, "urn:xmpp:microblog:0", analyser="microblog", type="blog", sync_state="COMPLETED")
    node(good, "big", **running)
    failed = node(bad, "broken", sync_state="ERROR", sync_error="refused")
    posts = []
    for name in EXAMPLE_NAMES:
        one = next(one for one in EXAMPLES if one.name == name)
        posts.append(item(blog, name, parsed=one.parsed(), data=one.text))
    item(blog, "bad", parse_error="a missing title")
    first = {"kind": "full", "reason": "first", "started": now}
    run = SyncRun.objects.create(account=bad, node=failed, outcome="failed", error="refused", **first)
    SyncRun.objects.create(account=good, node=blog, **first)
    Activity.objects.create(account=good, hour=hour_of(now), hits=9, stored=4)
    job = Job.objects.create(kind="purge", requested_by=User.objects.get(), state="running", total=4, done=1)
    root = "/admin/pubsubcache/"
    return [
        "/admin/",
        root,
        *(f"{root}{model}/" for model in ("account", "analyserchoice", "job", "pubsubnode", "pubsubitem", "syncrun")),
        f"{root}pubsubitem/?q=nowhere",
        *(f"{root}{model}/add/" for model in ("account", "pubsubnode")),
        *(f"{root}account/{bad.pk}/{page}/" for page in ACCOUNT_PAGES),
        *(f"{root}pubsubnode/{failed.pk}/{page}/" for page in ("change", "delete", "purge")),
        f"{root}pubsubnode/{blog.pk}/change/",
        *(f"{root}pubsubitem/{post.pk}/change/" for post in posts),
        f"{root}job/{job.pk}/change/",
        f"{root}syncrun/{run.pk}/change/",
        f"{root}analyserchoice/try/",
        f"{root}analyserchoice/try/?node={blog.pk}",
    ]


def of_django(user: User) -> list[str]:
    """Return the paths of pages that have nothing of the app."""
    pages = (*(f"{user.pk}/{page}/" for page in ("change", "delete", "history")), "add/", "")
    return [f"/admin/auth/user/{page}" for page in pages]


def test_axe_finds_nothing_that_django_does_not_have(inspector: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin.site.get_model_admin(User), "search_help_text", "Names of users.")
    pages = fill()
    inspector.log_in("admin")
    known = set()
    for page in of_django(User.objects.get()):
        inspector.open(page)
        known |= {one[:2] for one in inspector.violations()}
    for page in pages:
        inspector.open(page)
        assert [one for one in inspector.violations() if one[:2] not in known] == [], page
