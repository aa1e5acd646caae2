"""Test the dashboard of the admin: that it says what is wrong, to whom, and at what cost."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from pubsubcache.admin import dashboard
from pubsubcache.models import Account, Activity, PubsubItem, PubsubNode, SyncRun
from pubsubcache.models.activity import hour_of
from pubsubcache.models.fields import Undecryptable
from pubsubcache.utils import clock
from tests.admin_data import SCRIPT, account, item, logged_in, node, online, person, staff, superuser, url

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

DASHBOARD, INDEX = "/admin/pubsubcache/", "/admin/"
VIEW = ("view_account", "view_pubsubnode", "view_pubsubitem")
HOUR = timedelta(hours=1)


def words(client: Client, page: str = DASHBOARD) -> str:
    """Return the text of the dashboard or the summary, without markup."""
    response = client.get(page)
    assert response.status_code == 200
    markup = response.content.decode()
    assert SCRIPT not in markup
    shown = markup.partition('class="psc-dashboard')[2].partition('<div id="content-main"')[0]
    return text_of(shown.partition(">")[2])


def headline(client: Client, page: str = DASHBOARD) -> str:
    """Return the text of the line that says what is wrong."""
    markup = client.get(page).content.decode().partition('id="psc-headline"')[2]
    return text_of(markup.partition(">")[2].partition("<section")[0])


def text_of(markup: str) -> str:
    return unescape(" ".join(re.sub("<[^>]*>", " ", markup).split()))


def followed(owner: Account, name: str = "blog", **fields: Any) -> PubsubNode:
    """Create a node that is followed."""
    state = {"sync_state": "COMPLETED", "subscribed": True, "checked_at": clock.now(), "checked_token": 0}
    return node(owner, name, **{**state, **fields})


def run(of: PubsubNode, **fields: Any) -> SyncRun:
    """Record a sync run."""
    kind = {"kind": SyncRun.Kind.FULL, "reason": SyncRun.Reason.RETRY, "outcome": SyncRun.Outcome.FAILED}
    return SyncRun.objects.create(account=of.account, node=of, **{**kind, **fields})


def refused_login(alice: Account) -> None:
    Account.objects.filter(pk=alice.pk).update(status=Account.Status.AUTH_FAILED)


def died(alice: Account) -> None:
    Account.objects.filter(pk=alice.pk).update(heartbeat=clock.now() - HOUR)


def lost(alice: Account) -> None:
    account("bob@example.org", worker="host:1", heartbeat=clock.now(), status=Account.Status.OFFLINE)


def failing(alice: Account) -> None:
    node(alice, "bad", sync_state="ERROR", failures=1, sync_error="why", next_attempt=clock.now() + HOUR)


def failing_comparison(alice: Account) -> None:
    followed(alice, "bad", failures=1, checked_at=None, sync_error="why")


def backlog(alice: Account) -> None:
    node(alice, "late", sync_state=None, sync_state_updated=clock.now() - HOUR)


def unrevised(alice: Account) -> None:
    followed(alice, "late", checked_token=-1)


def refused(alice: Account) -> None:
    node(alice, "bad", sync_state="ERROR", next_attempt=None, sync_error="forbidden")


def unparsed(alice: Account) -> None:
    item(followed(alice, "odd"), parse_error="why")


TROUBLE: dict[Callable[[Account], None], str] = {
    refused_login: "alice@example.org: login refused",
    died: "No worker is running, so 1 account has no session",
    lost: "bob@example.org: offline",
    failing: "1 node fails",
    failing_comparison: "1 node fails",
    backlog: "1 node has waited for a synchronisation for over 10 minutes",
    unrevised: "1 node has waited for a synchronisation for over 10 minutes",
    refused: "A service refuses access to 1 node",
    unparsed: "1 item could not be parsed",
}


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda trouble: trouble.__name__)
def test_everything_works_only_while_nothing_is_wrong(trouble: Callable[[Account], None]) -> None:
    alice = account(**online())
    followed(alice, items=2)
    node(alice, "other", sync_state="NO_SYNC")
    client = superuser()
    assert headline(client) == headline(client, INDEX) == "Everything works."
    trouble(alice)
    assert headline(client) == headline(client, INDEX) == TROUBLE[trouble]


def test_the_worst_comes_first() -> None:
    alice = account(**online())
    for trouble in (unparsed, failing, lost):
        trouble(alice)
    assert headline(superuser()) == "bob@example.org: offline 1 node fails 1 item could not be parsed"


def test_the_links_of_the_headline_lead_to_what_is_wrong() -> None:
    alice = account(**online())
    failing(alice)
    unparsed(alice)
    client = superuser()
    assert [node.name for node in listed(client, "pubsubnode", state="failing")] == ["bad"]
    markup = client.get(DASHBOARD).content.decode()
    assert f'href="{url("pubsubnode", "changelist", state="failing")}"' in markup
    assert f'href="{url("pubsubitem", "changelist", parse_error="yes")}"' in markup


def listed(client: Client, model: str, **query: Any) -> list[Any]:
    """Return the objects in a list of the admin."""
    return list(client.get(url(model, "changelist", **query)).context["cl"].result_list)


def test_accounts_without_a_session_are_named_with_the_reason() -> None:
    account(**online())
    account("bob@example.org", status="auth_failed", status_detail="not-authorized\u202e")
    unreadable = account("carol@example.org", status="auth_failed", status_detail="not-authorized")
    Account.objects.filter(pk=unreadable.pk).update(password=Undecryptable("another key"))
    account("dave@example.org", **online(heartbeat=clock.now() - HOUR))
    account("erin@example.org", enabled=False)
    found = words(superuser())
    assert headline(logged_in(User.objects.get())) == "3 accounts have no session"
    assert "1 of 4 online" in found
    assert "bob@example.org login refused not-authorized\\u202e. Check the JID, and enter the password again." in found
    assert "carol@example.org password unreadable The stored password was encrypted with another key." in found
    assert "dave@example.org no worker No running worker holds this account. Start a worker" in found
    assert "erin@example.org" not in found


def test_workers_are_shown_with_their_accounts() -> None:
    for name in ("alice", "bob"):
        account(f"{name}@example.org", **online(worker="one"))
    account("carol@example.org", **online(worker="two", heartbeat=clock.now() - 3 * HOUR))
    found = words(superuser())
    assert "two dead last heartbeat 3 hours ago · carol@example.org one alive last heartbeat just now" in found
    assert "one alive last heartbeat just now · alice@example.org , bob@example.org" in found


def test_failures_are_grouped_by_cause() -> None:
    alice = account()
    now = clock.now()
    for number in range(3):
        of = node(alice, f"private/{number}")
        for _ in range(2):
            run(of, error=f"forbidden (person{number}@example.org denies 'node {number}', {number})", started=now)
    run(node(alice, SCRIPT), error=SCRIPT, started=now)
    run(of, error="long ago", started=now - 25 * HOUR)
    run(of, error="it works", outcome=SyncRun.Outcome.DONE, started=now)
    found = words(superuser())
    assert "forbidden (… denies …, …) such as private/2 3 6 just now" in found
    assert f"{SCRIPT} such as {SCRIPT} 1 1".replace("'run'", "…", 1) in found
    assert "long ago" not in found
    assert "it works" not in found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The service did not answer within 30 s.", "The service did not answer within 45 s."),
        ("no item 7f3a91bc-22de", "no item 00aa91bc-22df"),
        ('"blog" is too large', '"news" is too large'),
    ],
)
def test_a_cause_lacks_what_differs_between_nodes(one: str, other: str) -> None:
    assert dashboard.cause(one) == dashboard.cause(other)


def test_different_errors_are_different_causes() -> None:
    errors = ["The service refused: forbidden.", "The service refused: item-not-found.", "Not connected.", ""]
    assert len({dashboard.cause(error) for error in errors}) == len(errors)


def test_running_synchronisations_are_shown_with_their_progress() -> None:
    alice = account(**online())
    claim = {"sync_owner": "one", "sync_heartbeat": clock.now(), "sync_done": 1200, "sync_total": 5000}
    running = {"outcome": SyncRun.Outcome.RUNNING, "reason": SyncRun.Reason.FIRST}
    run(node(alice, "big", sync_state="IN_PROGRESS", **claim), **running)
    run(
        node(alice, "abandoned", sync_state="IN_PROGRESS", **{**claim, "sync_heartbeat": clock.now() - HOUR}), **running
    )
    node(alice, "next", sync_state=None)
    client = superuser()
    found = words(client)
    assert "1 running, 2 waiting" in found
    assert "big 1,200 of 5,000 items read first copy" in found
    assert 'max="5000" value="1200"' in client.get(DASHBOARD).content.decode()


def test_parse_errors_are_counted_by_analyser_and_linked() -> None:
    alice = account()
    for name, number in (("microblog", 3), ("events", 1), ("", 1)):
        of = node(alice, f"node of {name}", analyser=name)
        for position in range(number):
            item(of, f"{name}-{position}", parse_error="why")
        item(of, "good")
    client = superuser()
    assert "Items that could not be parsed microblog 3 events 1 no analyser 1" in words(client)
    query = {"parse_error": "yes", "node__analyser": "microblog"}
    assert unescape(url("pubsubitem", "changelist", **query)) in unescape(client.get(DASHBOARD).content.decode())
    assert len(listed(client, "pubsubitem", **query)) == 3


def test_parse_errors_are_counted_without_reading_items() -> None:
    of = node(account())
    item(of, "good")
    item(of, "bad", parse_error="why")
    found = PubsubItem.objects.unparsed().order_by().values_list("node")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    assert "pubsubcache_item_unparsed" in found.explain()


def test_the_newest_items_are_shown_by_title_and_one_node_does_not_hide_others() -> None:
    alice = account()
    quiet, busy = node(alice, "quiet"), node(alice, "busy")
    item(quiet, "first", parsed={"title": f"Frogs\u202e {SCRIPT}"})
    item(quiet, "second", parsed={"title": None}, text="It begins like this")
    for number in range(dashboard.SHOWN + 1):
        item(busy, f"post-{number}", parsed={"title": f"Post {number}"})
    item(node(alice, "odd"), "only-an-id", parsed={"title": {"not": "a text"}})
    found = words(superuser())
    assert "only-an-id" in found
    assert "Post 6" in found
    assert "It begins like this" in found
    assert "null" not in found
    assert "None" not in found.replace("None.", "")


def test_activity_is_shown_per_hour() -> None:
    now = hour_of(clock.now())
    for name, hits in (("alice", 1000), ("bob", 500)):
        Activity.objects.create(account=account(f"{name}@example.org"), hour=now, hits=hits, stale=7, notifications=30)
    Activity.objects.create(account=Account.objects.get(jid="bob@example.org"), hour=now - 30 * HOUR, hits=10**6)
    client = superuser()
    found = words(client)
    assert "1,500 hits 14 stale 0 misses" in found
    assert "60 notifications 0 items stored" in found
    assert client.get(DASHBOARD).content.decode().count("psc-bar-hits") == 1


@pytest.mark.parametrize("page", [DASHBOARD, INDEX])
def test_owners_see_only_what_is_theirs(page: str) -> None:
    for name in ("mine", "foreign"):
        owned = account(f"{name}@example.org", **online(worker=f"worker of {name}"))
        of = followed(owned, f"node of {name}", items=1, analyser=f"analyser of {name}")
        item(of, f"bad {name}", parse_error="why", parsed={"title": f"title of {name}"})
        run(of, error=f"cause of {name}", started=clock.now())
        Activity.objects.create(account=owned, hour=hour_of(clock.now()), hits=3)
    owner = staff(*VIEW)
    Account.objects.filter(jid="mine@example.org").update(owner=owner)
    client = logged_in(owner)
    found = words(client, page)
    assert "foreign" not in found
    assert "1 of 1 online" in found
    assert "1 node, 1 item" in found
    assert "Database" not in found
    if page == DASHBOARD:
        for shown in ("worker of mine", "analyser of mine 1", "title of mine", "cause of mine", "3 hits"):
            assert shown in found
    assert "foreign" in words(superuser(), DASHBOARD)


@pytest.mark.parametrize(
    ("permission", "shown"),
    [
        ("view_account", {"of 1 online", "Workers", "Answers in the last day", "alice"}),
        ("view_pubsubnode", {"Nodes", "Synchronisations", "Failures"}),
        ("view_pubsubitem", {"Newest items", "could not be parsed"}),
    ],
)
def test_staff_see_only_kinds_of_objects_that_they_may_view(permission: str, shown: set[str]) -> None:
    alice = account(**online())
    item(followed(alice, items=1))
    every = {"of 1 online", "Workers", "Answers in the last day", "Nodes", "Synchronisations", "Failures"}
    every |= {"Newest items", "could not be parsed", "alice"}
    found = words(person(permission))
    assert all(part in found for part in shown)
    assert not any(part in found for part in every - shown)
    assert "Everything works" not in found
    assert words(person(), INDEX) == ""


@pytest.mark.parametrize(("page", "name"), [(DASHBOARD, "psc-dashboard"), (INDEX, "psc-summary")])
def test_pages_work_on_an_empty_site(page: str, name: str) -> None:
    client = superuser()
    assert client.get(page).content.decode().count(f'id="{name}"') == 1
    assert headline(client, page) == "There are no accounts yet"
    assert "manage.py pubsub_worker" in words(client, page)
    account(enabled=False)
    assert headline(client, page) == "No account is enabled"


def test_pages_of_other_apps_have_no_dashboard() -> None:
    page = superuser().get(reverse("admin:app_list", args=["auth"])).content.decode()
    assert "psc-" not in page
    assert "pubsubcache/dashboard.css" not in page


@pytest.mark.parametrize("page", [DASHBOARD, INDEX])
def test_the_number_of_queries_does_not_grow(page: str, django_assert_max_num_queries: Callable[..., Any]) -> None:
    for number in range(5):
        owner = account(f"user{number}@example.org", **online(worker=f"worker{number}"))
        for name in ("a", "b"):
            of = followed(owner, name, items=2, analyser=f"analyser{number}")
            item(of, "bad", parse_error="why")
            run(of, error="why", started=clock.now())
        running = {"sync_owner": "one", "sync_heartbeat": clock.now()}
        run(node(owner, "c", **running), outcome=SyncRun.Outcome.RUNNING)
        node(owner, "d", sync_state="ERROR")
        Activity.objects.create(account=owner, hour=hour_of(clock.now()), hits=3)
    client = person(*VIEW)
    client.get(page)
    with django_assert_max_num_queries(12):
        client.get(page)
