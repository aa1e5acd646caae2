"""Test that staff who own accounts see and steer only these, on every page of the admin and with every action."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.urls.resolvers import RoutePattern

from pubsubcache.models import Account, AnalyserChoice, Job, PubsubItem, PubsubNode, SyncRun
from pubsubcache.store import jobs
from tests.admin_data import account, act, item, logged_in, node, online, staff, url

pytestmark = pytest.mark.django_db

APP = "pubsubcache"
TOKEN = "zq-x"  # in every text of the other account; a random CSRF token cannot contain it
LARGE, SHOWN = 777_777, "777,777"
EVERYTHING = {"post": "yes", "confirmed": "yes", "policy": "never", "enabled": "on", "new_password": "entered"}


def routes(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    """Yield the routes of the pages that the app adds to the admin."""
    for pattern in patterns:
        if not isinstance(pattern.pattern, RoutePattern):
            continue
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and f"/{APP}/" in f"/{route}":
            yield route


ROUTES = sorted(set(routes(get_resolver().url_patterns)))
# Choices concern all accounts, so they belong to nobody.
ROUTES_OF_OBJECTS = [
    route for route in ROUTES if route.endswith(("change/", "history/", "delete/")) and "/analyserchoice/" not in route
]
ADMINS = {model: found for model, found in admin.site._registry.items() if model._meta.app_label == APP}
ACTIONS = [
    (model._meta.model_name, name)
    for model, model_admin in ADMINS.items()
    for name in dict.fromkeys(
        [*(getattr(one, "__name__", one) for one in model_admin.actions or ()), "delete_selected"]
    )
]


class World:
    """Two owners with an account each, and a site-wide choice."""

    def __init__(self) -> None:
        granted = Permission.objects.filter(content_type__app_label=APP).exclude(codename="all_accounts")
        everything = granted.values_list("codename", flat=True)
        self.me, self.other = staff(*everything), staff(*everything)
        self.client = logged_in(self.me)
        self.mine = account("mine@example.org", owner=self.me)
        account("mine-too@example.org", owner=self.me)
        self.my_node = node(self.mine, "my-node", items=2, type="my-type")
        self.my_item = PubsubItem.objects.first()
        self.hidden = account(
            f"hidden@{TOKEN}.example",
            owner=self.other,
            host=f"{TOKEN}.example",
            **online(worker=f"{TOKEN}:1", status="error", status_detail=f"{TOKEN} failed"),
        )
        kind = {"type": f"{TOKEN}-type", "subtype": f"{TOKEN}-subtype", "analyser": f"{TOKEN}-analyser"}
        self.hidden_node = node(
            self.hidden,
            f"{TOKEN}-node",
            service=f"pubsub.{TOKEN}.example",
            sync_state="ERROR",
            sync_error=f"{TOKEN} refused",
            **kind,
        )
        PubsubNode.objects.filter(pk=self.hidden_node.pk).update(item_count=LARGE)
        words = {"parsed": {"title": TOKEN}, "text": f"sought {TOKEN}", "publisher": f"{TOKEN}@{TOKEN}.example"}
        ran = {"kind": "full", "reason": "staff"}
        SyncRun.objects.create(account=self.mine, node=self.my_node, **ran)
        self.hidden_run = SyncRun.objects.create(
            account=self.hidden, node=self.hidden_node, error=f"{TOKEN} broke", outcome="failed", **ran
        )
        self.choice = AnalyserChoice.objects.create(analyser="bookmarks", to_sync=True)
        self.hidden_job = Job.objects.create(
            kind=Job.Kind.FORGET, requested_by=self.other, state=Job.State.FAILED, error=f"{TOKEN} stopped"
        )
        self.hidden_item = item(self.hidden_node, f"{TOKEN}-item", data=f"<item>{TOKEN}</item>", **words)
        entry = {"action_flag": 2, "change_message": f"{TOKEN} changed", "user_id": self.other.pk}
        for row in (self.hidden, self.hidden_node, self.hidden_item):
            LogEntry.objects.log_actions(self.other.pk, [row], entry["action_flag"], entry["change_message"])  # type: ignore[arg-type, list-item]

    @property
    def hidden_pks(self) -> list[int]:
        """The primary keys of the other account and of what belongs to it."""
        return [row.pk for row in self.hidden_rows.values()]

    @property
    def hidden_rows(self) -> dict[str, Any]:
        """A row of the other account for each admin, by the name of its model."""
        rows = (self.hidden, self.hidden_node, self.hidden_item, self.hidden_run, self.hidden_job)
        return {str(row._meta.model_name): row for row in rows}

    def snapshot(self) -> dict[str, list[Any]]:
        """Return the rows of the other account, and those that belong to no account, by their model.

        Jobs that I asked for are done before.
        """
        while job := jobs.claim("test"):
            jobs.do_at_once(job)
        found: dict[str, list[Any]] = {"log": list(LogEntry.objects.filter(user=self.other).order_by("pk").values())}
        for model in apps.get_app_config(APP).get_models():
            rows: Any = model._default_manager.order_by("pk")
            names = {field.name for field in model._meta.get_fields()}
            if model is Account:
                rows = rows.filter(pk=self.hidden.pk)
            elif "account" in names:
                rows = rows.filter(account=self.hidden)
            elif "node" in names:
                rows = rows.filter(node__account=self.hidden)
            elif "requested_by" in names:
                rows = rows.filter(requested_by=self.other)
            found[model.__name__] = list(rows.values())
        return found


@pytest.fixture
def world() -> World:
    return World()


def address(route: str, pk: int) -> str:
    """Return the path of a page for a primary key."""
    return "/" + re.sub("<[^>]+>", str(pk), route)


def assert_nothing_of_others(response: Any) -> None:
    assert response.status_code in (200, 302, 400, 403, 404, 405), response.status_code
    content = b"".join(response.streaming_content) if response.streaming else response.content
    shown = content.decode() + str(response.headers) + str(getattr(response, "redirect_chain", ""))
    assert TOKEN not in shown.lower()
    assert SHOWN not in shown


def test_pages_and_actions_are_found() -> None:
    """The walk below covers what it is meant to cover. A new admin needs a row in `World.hidden_rows`."""
    assert {model.__name__ for model in ADMINS} == {
        "Account",
        "PubsubNode",
        "PubsubItem",
        "SyncRun",
        "Job",
        "AnalyserChoice",
    }
    assert {f"admin/{APP}/account/<path:object_id>/history/", f"admin/{APP}/pubsubnode/<int:pk>/purge/"} <= set(ROUTES)
    assert {f"admin/{APP}/analyserchoice/try/", f"admin/{APP}/pubsubitem/<int:pk>/raw/"} <= set(ROUTES)
    assert {("pubsubnode", "purge"), ("account", "disable"), ("pubsubnode", "delete_selected")} <= set(ACTIONS)
    assert set(apps.get_app_config(APP).get_models()) >= {Account, PubsubNode, PubsubItem}


@pytest.mark.both_databases
@pytest.mark.parametrize("route", ROUTES)
def test_no_page_shows_or_changes_anything_of_another_owner(world: World, route: str) -> None:
    before = world.snapshot()
    for pk in world.hidden_pks if "<" in route else [0]:
        page = address(route, pk)
        assert_nothing_of_others(world.client.get(page, follow=True))
        assert_nothing_of_others(world.client.post(page, EVERYTHING, follow=True))
    assert world.snapshot() == before


@pytest.mark.parametrize("route", ROUTES_OF_OBJECTS)
def test_pages_of_another_owner_behave_as_missing(world: World, route: str) -> None:
    model = route.split("/")[2]
    pk = world.hidden_rows[model].pk
    answers = [world.client.get(address(route, number)) for number in (pk, 987_654)]
    assert {(answer.status_code, answer.headers.get("Location")) for answer in answers} == {(302, "/admin/")} or {
        answer.status_code for answer in answers
    } == {403}


@pytest.mark.parametrize(("model", "action"), ACTIONS)
def test_no_action_reaches_anything_of_another_owner(world: World, model: str, action: str) -> None:
    before = world.snapshot()
    for across in ("0", "1"):
        answer = act(
            world.client,
            action,
            world.hidden_rows.get(model, world.choice),
            model=model,
            select_across=across,
            **EVERYTHING,
        )
        assert_nothing_of_others(answer)
    assert world.snapshot() == before


@pytest.mark.parametrize(("model", "action"), [entry for entry in ACTIONS if entry[0] in ("account", "pubsubnode")])
def test_owners_act_on_their_own(world: World, model: str, action: str) -> None:
    before = world.snapshot()
    Account.objects.filter(pk=world.mine.pk).update(enabled=action != "enable")
    mine: Any = {"account": world.mine, "pubsubnode": world.my_node}
    answer = act(world.client, action, mine[model], model=model, select_across="1", **EVERYTHING)
    assert_nothing_of_others(answer)
    assert answer.status_code == 200
    assert LogEntry.objects.filter(user=world.me).exists()
    assert world.snapshot() == before


def test_owners_see_their_own(world: World) -> None:
    mine: dict[str, Any] = {"account": world.mine, "pubsubnode": world.my_node, "pubsubitem": world.my_item}
    for model, row in mine.items():
        assert str(row.pk) in world.client.get(url(model, "changelist")).content.decode()
        answer = world.client.get(url(model, "change", row.pk))
        assert answer.status_code == 200
        assert "mine@example.org" in answer.content.decode()
    page = world.client.get(url("account", "delete", world.mine.pk)).content.decode()
    assert "Items: 2" in " ".join(page.split())
    page = world.client.get(reverse("admin:app_list", args=[APP])).content.decode()
    assert "<strong>2</strong> items" in page
    assert "my-type" in world.client.get(url("pubsubnode", "changelist")).content.decode()


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("pubsubnode", {"account__id__exact": "hidden"}),
        ("pubsubnode", {"state": "ERROR"}),
        ("pubsubitem", {"node__account__id__exact": "hidden"}),
        ("pubsubitem", {"node__id__exact": "node"}),
        ("pubsubitem", {"q": "sought"}),
        ("account", {"status": "error"}),
        ("account", {"worker": "yes"}),
    ],
)
def test_filters_and_searches_reach_only_ones_own(world: World, page: str, query: dict[str, str]) -> None:
    pks = {"hidden": str(world.hidden.pk), "node": str(world.hidden_node.pk)}
    answer = world.client.get(url(page, "changelist", **{key: pks.get(value, value) for key, value in query.items()}))
    assert answer.status_code == 200
    assert_nothing_of_others(answer)
    assert answer.context["cl"].result_count == 0


def test_first_pages_and_autocompletion_show_only_ones_own(world: World) -> None:
    choices = reverse(
        "admin:autocomplete", query={"app_label": APP, "model_name": "pubsubnode", "field_name": "account"}
    )
    for page in (reverse("admin:index"), reverse("admin:app_list", args=[APP]), choices):
        assert_nothing_of_others(world.client.get(page, follow=True))


def test_owners_add_accounts_that_belong_to_them(world: World) -> None:
    fields = {
        "jid": "new@example.org",
        "tls_verify": "on",
        "enabled": "on",
        "new_password": "x",
        "host": "",
        "port": "",
    }
    assert 'name="owner"' not in world.client.get(url("account", "add")).content.decode()
    answer = world.client.post(url("account", "add"), {**fields, "owner": world.other.pk})
    assert answer.status_code == 302
    assert Account.objects.get(jid="new@example.org").owner == world.me


def test_owners_add_nodes_to_their_own_accounts_only(world: World) -> None:
    fields = {"service": "pubsub.example.org", "name": "new"}
    answer = world.client.post(url("pubsubnode", "add"), {**fields, "account": world.hidden.pk})
    assert_nothing_of_others(answer)
    assert not PubsubNode.objects.filter(name="new").exists()
    assert world.client.post(url("pubsubnode", "add"), {**fields, "account": world.mine.pk}).status_code == 302
    assert PubsubNode.objects.get(name="new").account == world.mine


def test_only_staff_with_all_accounts_change_the_owner(world: World) -> None:
    fields = {"tls_verify": "on", "enabled": "on", "host": "", "port": "", "owner": world.other.pk}
    page = url("account", "change", world.mine.pk)
    assert world.client.post(page, fields).status_code == 302
    world.mine.refresh_from_db()
    assert world.mine.owner == world.me
    assert logged_in(staff("view_account", "change_account", "all_accounts")).post(page, fields).status_code == 302
    world.mine.refresh_from_db()
    assert world.mine.owner == world.other


def test_choices_for_analysers_need_all_accounts(world: World) -> None:
    chosen = {"choice-microblog": "no-sync"}
    page = reverse("admin:pubsubcache_analysers")
    assert "<select" not in world.client.get(page).content.decode()
    assert world.client.post(page, chosen).status_code == 403
    assert not AnalyserChoice.objects.filter(analyser="microblog").exists()
    client = logged_in(staff("view_pubsubnode", "change_analyserchoice", "all_accounts"))
    assert client.post(page, chosen).status_code == 302
    assert AnalyserChoice.objects.get(analyser="microblog").to_sync is False


def test_accounts_without_owner_are_visible_with_all_accounts_only() -> None:
    item(node(account("ownerless@example.org")))
    for user in (AnonymousUser(), staff("view_account", "view_pubsubnode", "view_pubsubitem")):
        for model in (Account, PubsubNode, PubsubItem):
            assert not model.objects.visible_to(user).exists()  # type: ignore[attr-defined]
    for seen in (staff("all_accounts"), User.objects.create_superuser("root")):
        for model in (Account, PubsubNode, PubsubItem):
            assert model.objects.visible_to(seen).count() == 1  # type: ignore[attr-defined]


def test_history_of_an_object_is_that_of_its_owner(world: World) -> None:
    page = url("pubsubnode", "history", world.hidden_node.pk)
    assert_nothing_of_others(world.client.get(page, follow=True))
    assert f"{TOKEN} changed" in logged_in(world.other).get(page).content.decode()
