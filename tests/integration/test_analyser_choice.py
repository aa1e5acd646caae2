"""Test staff's choice for an analyser, which overrides the analyser and is overridden by policies of nodes."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from pubsubcache import cache, store
from pubsubcache.analysers import Analyser, Analysis, registry
from pubsubcache.exceptions import NoLongerKept, ServiceUnreachable
from pubsubcache.management.syncing import sync_address
from pubsubcache.models import Account, AnalyserChoice, Job, PendingUnsubscription, PubsubItem, PubsubNode
from pubsubcache.services.sessions import sessions
from pubsubcache.store import choose_analyser, in_thread, nodes, scheduling, set_policy
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.types import ItemsPage, NodeAddress
from tests.admin_data import PASSWORD, SCRIPT, logged_in, person, staff, superuser
from tests.fakes import ADDRESS, NOTE, FakeService, in_loop, note_analyser

ALICE = "alice@example.org"
SERVICE = "pubsub.example.org"
TICKETS = {"name": "tickets", "type": "ticket", "node": "tickets"}

pytestmark = [pytest.mark.usefixtures("db"), pytest.mark.both_databases]


def make_node(name: str = "tickets", items: int = 3, **fields: Any) -> PubsubNode:
    """Create a node in sync, of the analyser "tickets"."""
    account, _ = Account.objects.get_or_create(jid=ALICE)
    defaults: dict[str, Any] = {
        "service": SERVICE,
        "sync_state": "COMPLETED",
        "analyser": "tickets",
        "subscribed": True,
        "checked_at": timezone.now(),
        "item_count": items,
        "to_sync": True,
        "by_analyser": True,
        "registry_fingerprint": registry.fingerprint(),
        "analysis_reason": "",
    }
    node = PubsubNode.objects.create(account=account, name=name, **{**defaults, **fields})
    for place in range(items):
        PubsubItem.objects.create(node=node, name=str(place), data="<item/>", position=place)
    return node


def unkept(name: str = "unkept", **fields: Any) -> PubsubNode:
    """Create a node that its analyser does not synchronise."""
    judgement = {"to_sync": False, "by_analyser": False, "analysis_reason": "why"}
    return make_node(name, 0, **{"sync_state": "NO_SYNC", "subscribed": False, **judgement, **fields})


def state(node: PubsubNode) -> tuple[str | None, int, bool]:
    node.refresh_from_db()
    assert node.items.count() == node.item_count
    return node.sync_state, node.item_count, node.subscribed


KEPT, EMPTY = ("COMPLETED", 3, True), ("NO_SYNC", 0, False)


def test_nodes_of_a_switched_off_analyser_are_emptied_at_once() -> None:
    node, other = make_node(), make_node("other", analyser="microblog")
    _, changed = choose_analyser("tickets", False)
    assert changed == 1
    assert (state(node), state(other)) == (EMPTY, KEPT)
    assert node.sync_error == "Staff decided: nodes of the analyser tickets are not synchronised."
    assert node.checked_at is None
    assert [row.name for row in PendingUnsubscription.objects.all()] == ["tickets"]
    assert not scheduling.due(node.account_id, 9, token=0)
    assert choose_analyser("tickets", False)[1] == 0


def test_nodes_of_a_switched_on_analyser_wait_for_a_worker() -> None:
    node = unkept()
    choose_analyser("tickets", True)
    assert state(node) == (None, 0, False)
    assert scheduling.due(node.account_id, 9, token=0) == [node.pk]
    assert choose_analyser("tickets", None)[1] == 1
    assert state(node) == EMPTY
    assert node.sync_error == "The analyser tickets does not synchronise this node."


def test_reset_choice_restores_the_decision_of_the_analyser() -> None:
    kept, not_kept = make_node(), unkept()
    for choice in (False, True, False, None):
        choose_analyser("tickets", choice)
    assert (state(kept)[0], state(not_kept)[0]) == (None, "NO_SYNC")
    assert AnalyserChoice.objects.get().to_sync is None
    assert store.choices() == {}


def test_nodes_in_sync_stay_in_sync() -> None:
    node = make_node()
    for choice in (True, None):
        assert choose_analyser("tickets", choice)[1] == 0
        assert state(node) == KEPT


@pytest.mark.parametrize(
    ("fields", "choice", "after"),
    [
        ({"policy": "always"}, False, KEPT),
        ({"to_sync": False, "by_analyser": None, "by_hand": True}, False, KEPT),
        ({"policy": "never", "sync_state": "NO_SYNC", "subscribed": False, "items": 0}, True, EMPTY),
        # Synchronised once by staff, although the analyser does not want it.
        ({"to_sync": False, "by_analyser": None}, False, EMPTY),
        ({"to_sync": False, "by_analyser": None}, None, KEPT),
    ],
)
def test_policy_of_a_node_overrides_the_choice_for_its_analyser(
    fields: dict[str, Any], choice: bool | None, after: Any
) -> None:
    node = make_node(**fields)
    choose_analyser("tickets", choice)
    assert state(node) == after


def test_reset_policy_restores_the_choice() -> None:
    node = make_node(policy="always")
    choose_analyser("tickets", False)
    set_policy(PubsubNode.objects.all(), "auto")
    assert state(node) == EMPTY


@pytest.mark.parametrize(("choice", "said"), [(False, True), (True, False)])
def test_new_nodes_follow_the_choice(choice: bool, said: bool) -> None:
    Account.objects.create(jid=ALICE)
    choose_analyser("tickets", choice)
    address = NodeAddress(SERVICE, "tickets")
    found = Analysis(service=SERVICE, node="tickets", name="tickets", type="ticket", to_sync=said)
    node = nodes.save_analysis(ALICE, address, found)
    assert node.sync_state == (None if choice else "NO_SYNC")
    node = nodes.save_analysis(ALICE, address, None)
    assert (node.sync_state, node.sync_error) == ("NO_SYNC", "No analyser matches.")


def test_choice_is_locked_before_a_node_is_analysed() -> None:
    """Otherwise a choice made at the same time could miss the node, and the node the choice."""
    node = make_node()
    found = Analysis(service=SERVICE, node="tickets", name="tickets", type="ticket", to_sync=True)
    for judge in (
        lambda: nodes.save_analysis(ALICE, node.address, found),
        lambda: nodes.update_analysis(node.pk, found),
        lambda: choose_analyser("tickets", True),
    ):
        with CaptureQueriesContext(connection) as queries:
            judge()
        read = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
        of_choices = [number for number, sql in enumerate(read) if 'FROM "pubsubcache_analyserchoice"' in sql]
        of_nodes = [number for number, sql in enumerate(read) if 'FROM "pubsubcache_pubsubnode"' in sql]
        assert of_choices[0] < of_nodes[0]
        if connection.features.has_select_for_update:
            assert read[of_choices[0]].endswith("FOR UPDATE")


# Reads and synchronisations with the analyser "note"


@pytest.fixture
def service() -> Iterator[FakeService]:
    """A service with a synchronised node of notes."""
    Account.objects.create(jid=ALICE)
    made = FakeService()
    made.fill(4)
    with registry.temporarily(note_analyser(), replace=True):

        @in_loop
        async def fill_cache() -> None:
            await read(made)
            await sync_node(made, await pk())

        fill_cache()
        assert state(PubsubNode.objects.get())[:2] == ("COMPLETED", 4)
        yield made


async def read(service: FakeService) -> ItemsPage:
    with sessions.offered(ALICE, service):
        return await cache.get_items(ALICE, ADDRESS.service, ADDRESS.name)


@in_thread
def pk() -> int:
    return PubsubNode.objects.get().pk


@in_loop
async def test_reads_follow_the_choice(service: FakeService) -> None:
    assert (await read(service)).origin == "cache"
    await in_thread(choose_analyser)("note", False)
    for _ in range(2):
        page = await read(service)
        assert (page.origin, len(page.items), page.state) == ("service", 4, "NO_SYNC")
    await in_thread(choose_analyser)("note", None)
    assert (await read(service)).origin == "service"
    await sync_node(service, await pk())
    assert (await read(service)).origin == "cache"


def later(**options: Any) -> Any:
    """Register the analysers of a later release."""
    return registry.temporarily(note_analyser(**options), replace=True)


def decide_otherwise(analysis: Analysis) -> None:
    analysis.to_sync = False


LATER = [{"to_sync": False}, {"node": "elsewhere"}, {"type": "other", "match_cb": decide_otherwise}]


@pytest.mark.parametrize("options", LATER)
@in_loop
async def test_node_that_a_new_release_does_not_keep_is_dropped_by_a_sync(
    service: FakeService, options: dict[str, Any]
) -> None:
    node_pk = await pk()
    with later(**options):
        with pytest.raises(NoLongerKept):
            await sync_node(service, node_pk)
        node = await in_thread(PubsubNode.objects.get)()
        assert await in_thread(state)(node) == EMPTY
        assert (node.sync_owner, node.failures, node.next_attempt) == ("", 0, None)
        assert node.sync_error
        assert await in_thread(PendingUnsubscription.objects.count)() == 1
        assert not await in_thread(scheduling.due)(node.account_id, 9, token=0)
        assert (await read(service)).origin == "service"


@in_loop
async def test_node_kept_by_choice_stays_after_an_upgrade(service: FakeService) -> None:
    await in_thread(choose_analyser)("note", True)
    with later(type="other", match_cb=decide_otherwise):
        await sync_node(service, await pk())
        assert await in_thread(state)(await in_thread(PubsubNode.objects.get)()) == ("COMPLETED", 4, True)
        assert (await read(service)).origin == "cache"


@in_loop
async def test_unreachable_service_does_not_change_the_analysis(service: FakeService) -> None:
    service.errors["get_items"] = ServiceUnreachable("down")
    with later(node=None, namespace=NOTE, type="other"), pytest.raises(ServiceUnreachable):
        await sync_node(service, await pk())
    assert await in_thread(state)(await in_thread(PubsubNode.objects.get)()) == ("COMPLETED", 4, True)


@in_loop
async def test_node_can_be_synchronised_by_hand_anyway(service: FakeService) -> None:
    account = await in_thread(Account.objects.get)()
    with later(to_sync=False):
        result = await sync_address(service, account, ADDRESS, lambda done, total: None)
        assert result.items == 4
        await in_thread(choose_analyser)("note", False)
        node = await in_thread(PubsubNode.objects.get)()
        assert (node.sync_state, node.by_hand) == ("COMPLETED", True)


# The command


def command(*arguments: str) -> tuple[list[dict[str, Any]], str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("pubsub_analysers", *arguments, "-O", "json", stdout=out, stderr=err)
    return json.loads(out.getvalue()), err.getvalue()


def test_command_sets_and_shows_choices() -> None:
    node = make_node()
    with registry.temporarily(
        Analyser(**TICKETS, to_sync=True), Analyser(name="other", type="x", node="x"), replace=True
    ):
        assert [row["choice"] for row in command()[0]] == [None, None]
        rows, said = command("--no-sync", " Tickets ", "--sync", "other")
        assert [(row["name"], row["to_sync"], row["choice"]) for row in rows] == [
            ("tickets", True, False),
            ("other", False, True),
        ]
        assert "Analyser tickets: its nodes are not synchronised; 1 node changed.\n" in said
        assert state(node) == EMPTY
        rows, _ = command("--default", "tickets")
        assert rows[0]["choice"] is None
        assert state(node)[0] is None


@pytest.mark.parametrize(
    "arguments", [["--sync", "nothing"], ["--sync", ""], ["--sync", "tickets", "--default", "tickets"]]
)
def test_invalid_arguments_are_refused(arguments: list[str]) -> None:
    make_node()
    with pytest.raises(CommandError) as failed:
        command(*arguments)
    assert failed.value.returncode == 1
    assert not AnalyserChoice.objects.exists()


def test_unregistered_analyser_can_be_switched() -> None:
    node = make_node()
    with registry.temporarily(replace=True):
        command("--no-sync", "tickets")
    assert state(node) == EMPTY


# The admin


PAGE = "admin:pubsubcache_analysers"


def post(client: Client, analyser: str, choice: str, **more: str) -> Any:
    return client.post(reverse(PAGE), {f"choice-{analyser}": choice, **more}, follow=True)


@pytest.fixture
def _tickets() -> Iterator[None]:
    with registry.temporarily(Analyser(**TICKETS, to_sync=True), replace=True):
        yield


CHOOSER = ("view_pubsubnode", "change_analyserchoice")


@pytest.mark.usefixtures("_tickets")
def test_staff_choose_in_the_admin() -> None:
    node = make_node()
    client = person(*CHOOSER)
    asked = post(client, "tickets", "no-sync").content.decode()
    assert "tickets: 3 items of 1 node" in asked
    assert state(node) == KEPT
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)">', asked))
    page = client.post(reverse(PAGE), hidden, follow=True).content.decode()
    assert "Nodes of tickets are synchronised: no." in page
    assert '<option value="no-sync" selected>' in page
    assert "registered: yes" in page
    assert state(node) == EMPTY
    entry = LogEntry.objects.get(content_type__model="analyserchoice")
    assert (entry.object_repr, entry.get_change_message()) == ("tickets", "Synchronised: no.")
    assert str(entry.user) in page
    assert '<option value="default" selected>' in post(client, "tickets", "default").content.decode()
    assert state(node)[0] is None


def test_one_form_saves_only_the_choices_that_its_user_changed() -> None:
    analysers = [Analyser(name=name, type=name, node=name, to_sync=True) for name in "abc"]
    with registry.temporarily(*analysers, replace=True):
        client = person(*CHOOSER)
        page = client.get(reverse(PAGE)).content.decode()
        form = dict(re.findall(r'<input type="hidden" name="(initial-[^"]+)" value="([^"]*)"', page))
        assert form == {f"initial-choice-{name}": "default" for name in "abc"}
        choose_analyser("b", True)  # meanwhile
        form |= {"choice-a": "no-sync", "choice-b": "default", "choice-c": "sync"}
        said = client.post(reverse(PAGE), form, follow=True).content.decode()
    assert store.choices() == {"a": False, "b": True, "c": True}
    assert [f"Nodes of {name} are synchronised" in said for name in "abc"] == [True, False, True]


@pytest.mark.usefixtures("_tickets")
def test_choice_requires_permission() -> None:
    node = make_node()
    for client in (person("view_pubsubnode"), logged_in(staff(*CHOOSER))):
        assert b"<select" not in client.get(reverse(PAGE)).content
        assert post(client, "tickets", "no-sync", confirmed="yes").status_code == 403
    assert post(person("change_analyserchoice"), "tickets", "no-sync").status_code == 403
    checking = Client(enforce_csrf_checks=True)
    checking.force_login(User.objects.create_superuser("root", password=PASSWORD))
    assert post(checking, "tickets", "no-sync").status_code == 403
    assert state(node) == KEPT


@pytest.mark.usefixtures("_tickets")
@pytest.mark.parametrize(
    ("name", "choice", "status"),
    [("nothing", "sync", 200), ("", "sync", 200), ("tickets", "perhaps", 400), ("tickets", "", 400)],
)
def test_invalid_choice_changes_nothing(name: str, choice: str, status: int) -> None:
    make_node("without", analyser="")
    assert post(superuser(), name, choice).status_code == status
    assert not AnalyserChoice.objects.exists()


def test_names_of_analysers_are_escaped() -> None:
    make_node(analyser=SCRIPT)
    choose_analyser(SCRIPT, True)
    client = superuser()
    assert SCRIPT not in client.get(reverse(PAGE)).content.decode()
    page = post(client, SCRIPT, "no-sync").content.decode()
    assert "3 items of 1 node" in page
    assert SCRIPT not in page


@pytest.mark.usefixtures("_tickets")
def test_staff_parse_the_items_of_an_analyser_again() -> None:
    make_node()
    client = person(*CHOOSER)
    assert 'name="reparse" value="tickets"' in client.get(reverse(PAGE)).content.decode()
    assert client.post(reverse(PAGE), {"reparse": "nothing"}).status_code == 400
    assert logged_in(staff(*CHOOSER)).post(reverse(PAGE), {"reparse": "tickets"}).status_code == 403
    assert not Job.objects.exists()
    client.post(reverse(PAGE), {"reparse": "tickets", "choice-tickets": "no-sync"})
    assert Job.objects.get().parameters == {"nodes": {"analyser": "tickets"}}
    assert not AnalyserChoice.objects.exists()
