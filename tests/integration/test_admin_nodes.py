"""Test nodes in the admin: what is shown, and the permissions that each action requires."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from pubsubcache.analysers import Analyser, registry
from pubsubcache.models import PendingUnsubscription, PubsubItem, PubsubNode
from pubsubcache.services import remote
from tests.admin_data import SCRIPT, account, act, item, node, person, superuser, url

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]
ERROR = PubsubNode.SyncState.ERROR
EVERYTHING_BUT = {
    "sync": ("change_pubsubnode", "delete_pubsubnode", "purge_pubsubnode"),
    "purge": ("change_pubsubnode", "delete_pubsubnode", "sync_pubsubnode"),
    "policy_always": ("delete_pubsubnode", "sync_pubsubnode", "purge_pubsubnode"),
    "policy_never": ("delete_pubsubnode", "sync_pubsubnode", "purge_pubsubnode"),
    "policy_auto": ("delete_pubsubnode", "sync_pubsubnode", "purge_pubsubnode"),
    "delete_selected": ("change_pubsubnode", "sync_pubsubnode", "purge_pubsubnode"),
}
FORGED = {"confirmed": "yes", "post": "yes"}


def snapshot() -> Any:
    return list(PubsubNode.objects.order_by("pk").values()), PubsubItem.objects.count()


def text_of(response: Any) -> str:
    return " ".join(response.content.decode().split())


@pytest.mark.parametrize("action", EVERYTHING_BUT)
def test_actions_require_their_permission(action: str) -> None:
    made = node(account(), items=2, policy="never" if action == "policy_auto" else "auto")
    before = snapshot()
    for client in (person("view_pubsubnode"), person("view_pubsubnode", *EVERYTHING_BUT[action])):
        page = client.get(url("pubsubnode", "changelist")).content.decode()
        assert f'<option value="{action}">' not in page
        act(client, action, made, **FORGED)
        assert snapshot() == before


@pytest.mark.parametrize("page", ["sync", "purge"])
@pytest.mark.parametrize("missing", ["the action", "view"])
def test_pages_of_a_node_require_their_permission(page: str, missing: str) -> None:
    made = node(account(), items=2)
    before = snapshot()
    client = person("view_pubsubnode", "change_pubsubnode") if missing == "the action" else person(f"{page}_pubsubnode")
    assert client.post(url("pubsubnode", page, made.pk), FORGED).status_code == 403
    assert client.get(url("pubsubnode", page, made.pk)).status_code == 403
    assert snapshot() == before


def test_all_pages_require_staff_status() -> None:
    made = node(account(), items=1)
    one = PubsubItem.objects.get()
    pages = [
        url("pubsubnode", "changelist"),
        url("pubsubnode", "sync", made.pk),
        url("pubsubnode", "purge", made.pk),
        url("pubsubitem", "raw", one.pk),
        reverse("admin:pubsubcache_analysers"),
    ]
    before = snapshot()
    for page in pages:
        assert Client().post(page, FORGED).status_code == 302
    assert snapshot() == before


def test_node_buttons_are_shown_only_with_permission() -> None:
    made = node(account())
    plain = person("view_pubsubnode").get(url("pubsubnode", "change", made.pk)).content.decode()
    assert "Synchronise now" not in plain
    assert "Purge from the cache" not in plain
    able = person("view_pubsubnode", "sync_pubsubnode", "purge_pubsubnode")
    page = able.get(url("pubsubnode", "change", made.pk)).content.decode()
    assert "Synchronise now" in page
    assert "Purge from the cache" in page


async def next_message(channel: str) -> dict[str, Any]:
    return dict(await asyncio.wait_for(get_channel_layer().receive(channel), timeout=60))


def test_synchronisation_is_requested_and_wakes_workers(
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    layer = get_channel_layer()
    channel = "specific.a-worker"
    async_to_sync(layer.group_add)(remote.WORKERS_GROUP, channel)
    made = [node(account(), name, sync_state=ERROR, failures=3) for name in ("a",)]
    made.append(node(made[0].account, "b"))
    with django_capture_on_commit_callbacks(execute=True):
        page = act(person("view_pubsubnode", "sync_pubsubnode"), "sync", *made)
    assert "2 nodes will be synchronised as soon as a worker is running." in text_of(page)
    assert PubsubNode.objects.filter(sync_requested__isnull=False, failures=0).count() == 2
    assert async_to_sync(next_message)(channel)["type"] == "pubsub.wake"


def test_node_is_synchronised_by_post_only() -> None:
    client = person("view_pubsubnode", "sync_pubsubnode")
    made = node(account())
    client.get(url("pubsubnode", "sync", made.pk))
    assert not PubsubNode.objects.filter(sync_requested__isnull=False).exists()
    page = client.post(url("pubsubnode", "sync", made.pk), follow=True)
    assert "1 node will be synchronised as soon as a worker is running." in text_of(page)
    assert PubsubNode.objects.filter(sync_requested__isnull=False).exists()


def test_forged_posts_without_a_token_are_refused() -> None:
    made = node(account(), items=1)
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser_user())
    assert client.post(url("pubsubnode", "sync", made.pk)).status_code == 403
    assert client.post(url("pubsubnode", "purge", made.pk), FORGED).status_code == 403
    assert PubsubItem.objects.exists()


def superuser_user() -> Any:
    from django.contrib.auth.models import User

    return User.objects.create_superuser("boss", password="x")


def test_eviction_asks_for_confirmation_with_the_number_of_items() -> None:
    client = person("view_pubsubnode", "purge_pubsubnode")
    owner = account()
    chosen, other = [node(owner, "a", items=3), node(owner, "b", items=2)], node(owner, "c", items=1)
    page = act(client, "purge", *chosen)
    assert "Remove 5 items of 2 nodes from the cache?" in text_of(page)
    assert PubsubItem.objects.count() == 6
    page = act(client, "purge", *chosen, confirmed="yes")
    assert "5 items were removed from the cache." in text_of(page)
    assert list(PubsubItem.objects.values_list("node", flat=True)) == [other.pk]
    assert PubsubNode.objects.count() == 3


def test_evicting_filtered_nodes_keeps_the_others() -> None:
    client = person("view_pubsubnode", "purge_pubsubnode")
    owner = account()
    first = node(owner, "a", items=1, type="blog")
    node(owner, "b", items=1, type="blog")
    kept = node(owner, "c", items=1, type="ticket")
    form = {"action": "purge", "_selected_action": [first.pk], "select_across": "1"}
    address = url("pubsubnode", "changelist", type="blog")
    asked = client.post(address, form)
    assert "Remove 2 items of 2 nodes" in text_of(asked)
    assert 'name="select_across" value="1"' in asked.content.decode()
    client.post(address, {**form, "confirmed": "yes"})
    assert list(PubsubItem.objects.values_list("node", flat=True)) == [kept.pk]


def test_node_is_evicted_from_its_page() -> None:
    client = person("view_pubsubnode", "purge_pubsubnode")
    made = node(account(), items=1)
    asked = client.get(url("pubsubnode", "purge", made.pk))
    assert "Remove 1 item of 1 node from the cache?" in text_of(asked)
    page = client.post(url("pubsubnode", "purge", made.pk), {"confirmed": "yes"}, follow=True)
    assert "1 item was removed from the cache." in text_of(page)
    assert not PubsubItem.objects.exists()


@pytest.mark.parametrize(("action", "policy"), [("policy_always", "always"), ("policy_never", "never")])
def test_policy_is_set_on_the_selected_nodes_and_logged(action: str, policy: str) -> None:
    owner = account()
    chosen, other = node(owner, "a"), node(owner, "b")
    page = act(person("view_pubsubnode", "change_pubsubnode"), action, chosen)
    assert "The policy of 1 node is now:" in text_of(page)
    assert dict(PubsubNode.objects.values_list("pk", "policy")) == {chosen.pk: policy, other.pk: "auto"}
    assert [entry.object_id for entry in LogEntry.objects.all()] == [str(chosen.pk)]


def test_form_of_a_node_changes_only_the_policy() -> None:
    made = node(account(), type="blog", sync_state=ERROR, sync_error="gone", subscribed=True)
    form = {"policy": "always", "name": "forged", "type": "forged", "sync_state": "COMPLETED", "subscribed": ""}
    client = person("view_pubsubnode", "change_pubsubnode")
    assert client.post(url("pubsubnode", "change", made.pk), form).status_code == 302
    made.refresh_from_db()
    assert (made.policy, made.name, made.type, made.subscribed) == ("always", "urn:xmpp:microblog:0", "blog", True)


def test_policy_set_in_the_form_works_like_the_action() -> None:
    made = node(account(), items=2, subscribed=True, sync_state="COMPLETED")
    client = superuser()
    asked = client.post(url("pubsubnode", "change", made.pk), {"policy": "never"})
    assert "Remove 2 items of 1 node from the cache, and keep it no longer?" in text_of(asked)
    made.refresh_from_db()
    assert (made.sync_state, made.policy) == ("COMPLETED", "auto")
    client.post(url("pubsubnode", "change", made.pk), {"policy": "never", "confirmed": "yes"})
    made.refresh_from_db()
    assert (made.sync_state, made.subscribed, made.item_count) == ("NO_SYNC", False, 0)


def test_view_permission_does_not_allow_setting_the_policy() -> None:
    made = node(account())
    client = person("view_pubsubnode", "sync_pubsubnode", "purge_pubsubnode")
    assert client.post(url("pubsubnode", "change", made.pk), {"policy": "never"}).status_code == 403
    made.refresh_from_db()
    assert made.policy == "auto"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"uri": "https://example.org/"}, "This is not the URI of a node"),
        ({"uri": "xmpp:pubsub.example.org"}, "This is not the URI of a node"),
        ({"uri": "xmpp:a@b/c d?;node=n", "name": "other"}, "Enter either a URI, or a service and a node."),
        ({"service": "not a jid", "name": "n"}, "JID"),
        ({"service": "pubsub.example.org"}, "The name of the node is missing."),
        ({"service": "pubsub.example.org", "name": "n" * 2999}, "longer than 2500 bytes"),
        ({"account": 999, "name": "n"}, "Select a valid choice."),
    ],
)
def test_node_is_not_added_by_a_wrong_address(fields: dict[str, Any], words: str) -> None:
    page = superuser().post(url("pubsubnode", "add"), {"account": account().pk, **fields})
    assert page.status_code == 200
    assert words in page.content.decode()
    assert not PubsubNode.objects.exists()


def test_adding_nodes_needs_a_permission() -> None:
    client = person("view_pubsubnode", "change_pubsubnode", "sync_pubsubnode")
    assert client.get(url("pubsubnode", "add")).status_code == 403
    fields = {"account": account().pk, "service": "pubsub.example.org", "name": "n"}
    assert client.post(url("pubsubnode", "add"), fields).status_code == 403
    assert not PubsubNode.objects.exists()
    assert person("add_pubsubnode").post(url("pubsubnode", "add"), fields).status_code == 302
    assert PubsubNode.objects.get().by_hand


@pytest.mark.parametrize("way", ["page", "action"])
def test_forgetting_a_node_removes_its_items_and_subscription(way: str) -> None:
    client = person("view_pubsubnode", "delete_pubsubnode")
    made = node(account(), items=2, subscribed=True)
    if way == "page":
        assert "Items: 2" in text_of(client.get(url("pubsubnode", "delete", made.pk)))
        client.post(url("pubsubnode", "delete", made.pk), {"post": "yes"})
    else:
        assert "Items: 2" in text_of(act(client, "delete_selected", made))
        act(client, "delete_selected", made, post="yes")
    assert not PubsubNode.objects.exists()
    assert not PubsubItem.objects.exists()
    assert PendingUnsubscription.objects.get().name == "urn:xmpp:microblog:0"


def test_texts_of_services_are_escaped() -> None:
    made = node(
        account(),
        f"node{SCRIPT}",
        service=f"pubsub{SCRIPT}",
        sync_state=ERROR,
        sync_error=f"refused {SCRIPT}",
        type=f"t{SCRIPT}",
        subtype=f"s{SCRIPT}",
        analyser=f"a{SCRIPT}",
        extra={"k": SCRIPT},
        access_model="<b>",
        items=1,
    )
    client = superuser()
    pages = [
        client.get(url("pubsubnode", "changelist")),
        client.get(url("pubsubnode", "change", made.pk)),
        client.get(url("pubsubnode", "purge", made.pk)),
        client.get(url("pubsubnode", "delete", made.pk)),
        client.get(url("pubsubitem", "changelist", node__id__exact=made.pk)),
        client.get(reverse("admin:index")),
        client.get(reverse("admin:pubsubcache_analysers")),
        act(client, "purge", made),
        act(client, "sync", made),
        client.get(url("pubsubnode", "history", made.pk)),
    ]
    for page in pages:
        assert page.status_code == 200
        assert SCRIPT not in page.content.decode()
    assert "refused &lt;script&gt;" in pages[1].content.decode()


def test_reason_is_shortened_in_the_list_only() -> None:
    reason = "forbidden: " + "because " * 200 + "the end"
    made = node(account(), sync_state=ERROR, sync_error=reason)
    client = superuser()
    cell = (
        text_of(client.get(url("pubsubnode", "changelist")))
        .split('class="field-state_and_reason"')[1]
        .split("</td>")[0]
    )
    assert "forbidden: because" in cell
    assert "the end" not in cell
    assert reason in text_of(client.get(url("pubsubnode", "change", made.pk)))


def test_state_is_explained_on_the_page_of_a_node() -> None:
    made = node(account())
    page = text_of(superuser().get(url("pubsubnode", "change", made.pk)))
    assert "waiting</span> <span>No worker holds the account.</span></div>" in page


def test_synchronisation_shows_its_progress() -> None:
    running = {"sync_owner": "somebody", "sync_heartbeat": timezone.now()}
    made = node(account(), sync_state="IN_PROGRESS", sync_done=1200, sync_total=5000, **running)
    client = superuser()
    for page in (url("pubsubnode", "changelist"), url("pubsubnode", "change", made.pk)):
        shown = text_of(client.get(page))
        assert 'max="5000" value="1200"></progress> <span>1,200 of 5,000 items read</span>' in shown


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"state": "none"}, {"new", "talk", "foreign"}),
        ({"state": "ERROR"}, {"bad"}),
        ({"state": "waiting"}, {"new", "talk", "foreign"}),
        ({"state": "refused"}, {"bad"}),
        ({"type": ""}, {"new", "foreign"}),
        ({"type": "blog", "subtype": "comment"}, {"talk"}),
        ({"policy__exact": "never"}, {"bad"}),
        ({"subscribed__exact": "1"}, {"talk"}),
        ({"partial__exact": "1"}, {"bad"}),
        ({"analyser": "microblog"}, {"bad", "talk"}),
        ({"q": "tal"}, {"talk"}),
        ({"q": "other.example"}, {"new"}),
        ({"checked_at__isnull": "False"}, {"talk"}),
    ],
)
def test_nodes_are_found(query: dict[str, str], names: set[str]) -> None:
    owner = account()
    node(owner, "new", service="other.example.org")
    node(account("bob@example.org"), "foreign")
    node(owner, "bad", sync_state=ERROR, policy="never", type="blog", analyser="microblog", partial=True)
    checked = timezone.now() - timedelta(days=1)
    node(owner, "talk", type="blog", subtype="comment", analyser="microblog", subscribed=True, checked_at=checked)
    response = superuser().get(url("pubsubnode", "changelist", **query))
    assert {one.name for one in response.context["cl"].result_list} == names


def test_nodes_of_one_account_are_found_from_the_account() -> None:
    node(account())
    other = account("bob@example.org")
    theirs = node(other, "theirs")
    client = superuser()
    assert url("pubsubnode", "changelist", account__id__exact=other.pk) in text_of(
        client.get(url("account", "changelist"))
    )
    response = client.get(url("pubsubnode", "changelist", account__id__exact=other.pk))
    assert list(response.context["cl"].result_list) == [theirs]


def test_the_list_makes_no_query_per_node(django_assert_max_num_queries: Callable[..., Any]) -> None:
    client = superuser()
    for number in range(10):
        owner = account(f"user{number}@example.org")
        for name in ("a", "b", "c"):
            node(owner, name)
    with django_assert_max_num_queries(13) as queries:
        assert client.get(url("pubsubnode", "changelist")).status_code == 200
    assert not any(
        'account"."password' in query["sql"] for query in queries.captured_queries if "LIMIT" in query["sql"]
    )


def test_empty_list_explains_what_to_do() -> None:
    client = superuser()
    assert "because there are no accounts" in text_of(client.get(url("pubsubnode", "changelist")))
    account()
    assert "manage.py pubsub_get" in text_of(client.get(url("pubsubnode", "changelist")))


def parse_ticket(element: Any, context: Any) -> dict[str, Any]:
    return {}


def test_analysers_are_listed_with_the_states_of_their_nodes() -> None:
    owner = account()
    tickets = node(owner, "t", analyser="tickets", sync_state="COMPLETED", items=2)
    item(tickets, "broken", parse_error="no")
    node(owner, "u", analyser="gone", sync_state=ERROR)
    node(owner, "v")
    analysers = [
        Analyser(name="tickets", type="ticket", node="urn:x:tickets", to_sync=True, parser=parse_ticket),
        Analyser(name="recipes", type="recipe", namespace=f"urn:x{SCRIPT}"),
    ]
    with registry.temporarily(*analysers, replace=True):
        response = person("view_pubsubnode").get(reverse("admin:pubsubcache_analysers"))
    page = response.content.decode()
    assert [row["name"] for row in response.context["rows"]] == ["tickets", "recipes", "gone", ""]
    assert [dict(row["tally"].nodes) for row in response.context["rows"]] == [
        {"stale": 1},
        {},
        {"refused": 1},
        {"waiting": 1},
    ]
    assert response.context["rows"][0]["tally"].items == 2
    assert response.context["rows"][0]["tally"].parse_errors == 1
    assert f"{parse_ticket.__module__}.parse_ticket" in page
    assert SCRIPT not in page
    assert "analyser=&amp;state=waiting" in page
    errors = url("pubsubitem", "changelist", node__analyser="tickets", parse_error="yes")
    assert escape(errors) in page
    assert "1 item" in text_of(superuser().get(errors))


def test_page_of_analysers_requires_permission_to_view_nodes() -> None:
    assert person("view_account").get(reverse("admin:pubsubcache_analysers")).status_code == 403
    assert person("view_pubsubnode").get(reverse("admin:pubsubcache_analysers")).status_code == 200
