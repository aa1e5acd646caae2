"""Test sync runs in the admin: their list, and the newest ones on the pages of nodes and accounts."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from pubsubcache import live
from pubsubcache.models import PubsubNode, SyncRun
from tests.admin_data import SCRIPT, account, logged_in, node, person, staff, superuser, url

pytestmark = pytest.mark.django_db

RIGHTS = ("view_pubsubnode", "view_account")


def run(of: PubsubNode, **fields: Any) -> SyncRun:
    started = timezone.now() - timedelta(minutes=5)
    made = {"kind": "full", "reason": "staff", "outcome": "done", "started": started}
    if fields.get("outcome") != "running":
        made["finished"] = started + timedelta(seconds=83)
    return SyncRun.objects.create(account=of.account, node=of, **(made | fields))


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def test_the_list_shows_why_a_run_started_how_it_ended_and_what_it_changed() -> None:
    alice = account()
    run(node(alice, "blog"), added=1200, updated=3, removed=2, requests=15)
    run(node(alice, SCRIPT), outcome="failed", reason="reconnect", error=SCRIPT)
    page = text_of(superuser().get(url("syncrun", "changelist")))
    assert "+1,200 ~3 -2" in page
    assert "1 min 23 s" in page
    assert "requested" in page
    assert "new session" in page
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;") >= 2


@pytest.mark.parametrize(
    "chosen", [{"outcome__exact": "failed"}, {"reason__exact": "contents"}, {"kind__exact": "ids"}]
)
def test_the_list_can_be_filtered(chosen: dict[str, str]) -> None:
    alice = account()
    run(node(alice, "chosen-node"), outcome="failed", reason="contents", kind="ids")
    run(node(alice, "other-node"))
    page = text_of(superuser().get(url("syncrun", "changelist", **chosen)))
    assert "chosen-node" in page
    assert "other-node" not in page


@pytest.mark.parametrize("model", ["pubsubnode", "account"])
def test_the_page_shows_the_ten_newest_runs(model: str) -> None:
    blog = node(account(), "blog")
    pk = blog.pk if model == "pubsubnode" else blog.account_id
    client = person(*RIGHTS)
    assert "No run is recorded" in text_of(client.get(url(model, "change", pk)))
    for number in range(12):
        run(blog, outcome="failed", error=f"error {number}.")
    page = text_of(client.get(url(model, "change", pk)))
    assert [f"error {number}." in page for number in range(12)] == [False] * 2 + [True] * 10
    of = "node" if model == "pubsubnode" else "account"
    everything = url("syncrun", "changelist", **{f"{of}__id__exact": pk})
    assert everything in page
    assert "error 0." in text_of(client.get(everything))


def test_a_run_whose_process_died_reads_abandoned() -> None:
    now = timezone.now()
    live = node(account(), "live", sync_owner="w/1", sync_heartbeat=now, sync_done=300, sync_total=1000)
    dead = node(live.account, "dead", sync_owner="w/2", sync_heartbeat=now - timedelta(hours=1))
    pages = []
    for of in (live, dead):
        run(of, outcome="running")
        pages.append(text_of(person(*RIGHTS).get(url("pubsubnode", "change", of.pk))))
    assert "300 / 1,000" in pages[0]
    assert "abandoned" not in pages[0]
    assert "abandoned" in pages[1]


def test_runs_can_be_viewed_with_the_permission_for_nodes_and_never_changed() -> None:
    made = run(node(account(), "blog"), outcome="failed", error="it broke")
    viewer, stranger = person(*RIGHTS), person("view_account")
    for page in (url("syncrun", "changelist"), url("syncrun", "change", made.pk)):
        assert "it broke" in text_of(viewer.get(page))
        assert stranger.get(page).status_code == 403
    assert "it broke" not in text_of(stranger.get(url("account", "change", made.account_id)))
    for client in (viewer, superuser()):
        assert client.get(url("syncrun", "add")).status_code == 403
        assert client.post(url("syncrun", "change", made.pk), {"outcome": "done"}).status_code == 403
        assert client.post(url("syncrun", "delete", made.pk), {"post": "yes"}).status_code == 403
    assert SyncRun.objects.get().outcome == "failed"


def test_owners_see_the_runs_of_their_accounts_only() -> None:
    owner = staff(*RIGHTS)
    own = run(node(account("own@example.org", owner=owner), "own-node"))
    foreign = run(node(account("foreign@example.org"), "foreign-node"))
    client = logged_in(owner)
    page = text_of(client.get(url("syncrun", "changelist")))
    assert "own-node" in page
    assert "foreign" not in page
    own_page = url("account", "change", own.account_id)
    assert "own-node" in text_of(client.get(own_page))
    assert client.get(url("syncrun", "change", own.pk)).status_code == 200
    assert client.get(url("syncrun", "change", foreign.pk)).status_code == 302
    listed = client.get(url("syncrun", "changelist", node__id__exact=foreign.node_id))
    assert "foreign" not in text_of(listed).replace(f"node__id__exact={foreign.node_id}", "")


def test_pages_take_few_queries(django_assert_max_num_queries: Callable[..., Any]) -> None:
    alice = account()
    for number in range(30):
        run(node(alice, f"node-{number}"), outcome="running" if number % 2 else "done")
    client = superuser()
    pages = {
        url("syncrun", "changelist"): 8,
        url("account", "change", alice.pk): 12,
        url("pubsubnode", "change", alice.nodes.first().pk): 12,
    }
    for page, most in pages.items():
        with django_assert_max_num_queries(most):
            text_of(client.get(page))


def test_open_pages_learn_of_runs_that_their_viewer_may_see() -> None:
    owner = staff(*RIGHTS)
    own = node(account("own@example.org", owner=owner))
    foreign = node(account("foreign@example.org"))
    viewer = live.Viewer.of(owner)
    topics = live.Topic("runs"), live.Topic("account_runs", (own.account_id,))
    watched = [live.Watched(topic, viewer) for topic in topics]
    assert all(live.may_watch(owner, topic) for topic in topics)
    assert not live.may_watch(owner, live.Topic("account_runs", (foreign.account_id,)))
    before = live.read_versions(watched)
    run(foreign)
    assert live.read_versions(watched) == before
    made = run(own, outcome="running")
    started = live.read_versions(watched)
    SyncRun.objects.filter(pk=made.pk).update(outcome="done")
    ended = live.read_versions(watched)
    for one in watched:
        assert len({before[one], started[one], ended[one]}) == 3
