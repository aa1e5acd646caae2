"""Test that an import restores exported nodes row by row, or is refused as a whole."""

import io
import json
import tempfile
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from pubsubcache import cache
from pubsubcache.analysers import registry
from pubsubcache.cache import Freshness
from pubsubcache.models import Account, PendingUnsubscription, PubsubEvicted, PubsubItem, PubsubNode
from pubsubcache.store import choose_analyser, scheduling
from pubsubcache.store.extra import extra_of, fields_of
from pubsubcache.types import ItemsRequest, NodeAddress
from pubsubcache.utils import xmlform
from tests.selection import how_many

ALICE = "alice@capulet.example"
BOB = "bob@montague.example"
NODE = "urn:xmpp:microblog:0"
SERVICE = "pubsub.capulet.example"
ATOM = "http://www.w3.org/2005/Atom"
FORMATS = ["jsonl", "xml"]
START = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
ITEM_FIELDS = [field.name for field in PubsubItem._meta.concrete_fields if field.name not in ("id", "node", "revision")]
EVICTED_FIELDS = ["name", "position", "created", "updated"]
NODE_FIELDS = [
    "service", "name", "analyser", "type", "subtype", "policy", "sync_state", "sync_state_updated", "sync_error",
    "access_model", "partial", "reconcile_interval", "item_count", "evicted_count", "next_position",
]  # fmt: skip

pytestmark = [pytest.mark.usefixtures("db"), pytest.mark.both_databases]


def item_xml(name: str, title: str = "", publisher: str = "") -> str:
    item = Element(f"{{{xmlform.PUBSUB}}}item", {"id": name})
    if publisher:
        item.set("publisher", publisher)
    SubElement(SubElement(item, f"{{{ATOM}}}entry"), f"{{{ATOM}}}title").text = title
    return xmlform.to_text(item)


def make_account(jid: str = ALICE) -> Account:
    return Account.objects.create(jid=jid, password="secret of the house")


def make_node(account: Account, name: str = NODE, *, items: int = 3, evicted: int = 0, **fields: Any) -> PubsubNode:
    """Create a node in sync whose oldest items are evicted."""
    defaults: dict[str, Any] = {
        "service": account.jid,
        "sync_state": "COMPLETED",
        "sync_state_updated": START,
        "analyser": "microblog",
        "type": "blog",
        "access_model": "open",
        "subscribed": True,
        "checked_at": timezone.now(),
        "item_count": items,
        "evicted_count": evicted,
        "next_position": 2**32 + 2**31,
    }
    learned = {"to_sync": True, "cursors": "ids", "rsm": True, "registry": registry.fingerprint(), "reason": ""}
    fields |= fields_of(fields.pop("extra", learned))
    node = PubsubNode.objects.create(account=account, name=name, **{**defaults, **fields})
    places = [(place, START + timedelta(seconds=place, microseconds=place)) for place in range(items + evicted)]
    PubsubEvicted.objects.bulk_create(
        PubsubEvicted(node=node, name=f"item-{place}", position=place, created=at, updated=at)
        for place, at in places[:evicted]
    )
    PubsubItem.objects.bulk_create(
        [
            PubsubItem(
                node=node,
                name=f"item-{place}",
                data=item_xml(f"item-{place}", f"Title {place}", ALICE if place % 2 else ""),
                parsed=None if place % 5 == 4 else {"title": f"Title {place}", "tags": ["a", None, 1.5, True]},
                parse_error="cannot be parsed" if place % 5 == 4 else "",
                publisher=ALICE if place % 2 else "",
                text=f"Title {place}",
                position=place,
                created=at,
                updated=at + timedelta(hours=1),
                revision=place,
            )
            for place, at in places[evicted:]
        ],
        batch_size=500,
    )
    return node


def contents() -> list[Any]:
    """Return everything that an export and an import must preserve, in order."""
    found: list[Any] = []
    for node in PubsubNode.objects.order_by("account__jid", "service", "name"):
        found.append((node.account.jid, {name: getattr(node, name) for name in NODE_FIELDS}, extra_of(node)))
        found += node.items.in_order().values(*ITEM_FIELDS)
        found += node.evicted.order_by("position").values(*EVICTED_FIELDS)
    return found


def call(*arguments: str, **options: Any) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def export(path: Path, form: str = "jsonl", *filters: str) -> Path:
    out, _ = call("pubsub_export", "-O", form, "-o", str(path), *filters)
    assert out == ""
    return path


def import_from(path: Path, *options: str) -> dict[str, int]:
    done: dict[str, int] = json.loads(call("pubsub_import", str(path), "-O", "json", *options)[0])
    return done


def refused(path: Path, *options: str) -> str:
    """Assert that an import is refused and changes nothing; return its one-line error message."""
    before = contents(), PubsubNode.objects.count()
    with pytest.raises(CommandError) as failed:
        import_from(path, *options)
    assert failed.value.returncode == 1
    assert (contents(), PubsubNode.objects.count()) == before
    sentence = str(failed.value)
    assert "\n" not in sentence
    return sentence


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nodes"


# Round trips


@pytest.mark.parametrize("form", FORMATS)
def test_large_node_is_equal_row_by_row(path: Path, form: str) -> None:
    size = how_many(2_000, 20_000)
    make_node(make_account(), items=size, evicted=300)
    before = contents()
    assert len(before) == size + 301
    export(path, form)
    call("pubsub_reset", "--noinput", "--keep-subscriptions")
    assert not PubsubItem.objects.exists()
    assert not PubsubEvicted.objects.exists()
    assert import_from(path) == {"nodes": 1, "items": size, "evicted": 300, "replaced": 0}
    assert contents() == before


def test_nodes_of_all_kinds_are_restored(path: Path, form: str) -> None:
    alice, bob = make_account(), make_account(BOB)
    make_node(alice, items=7, evicted=2, partial=True, reconcile_interval=timedelta(seconds=90, microseconds=5))
    make_node(alice, "empty", items=0, access_model="", subtype="x")
    make_node(alice, "tickets", service=SERVICE, extra={"limit": 3, "listed": 3, "moves": False, "probe": ["a", "b"]})
    make_node(alice, "never", service=SERVICE, items=0, sync_state="NO_SYNC", policy="never", sync_error="Staff said.")
    make_node(alice, "new", service="other.example", sync_state=None, policy="always", extra={})
    make_node(bob, NODE, service=ALICE)
    make_node(bob, NODE, sync_state="ERROR", sync_error="It went \x01 wrong <here>.", extra={"by_hand": True})
    before = contents()
    export(path, form)
    PubsubNode.objects.all().delete()
    assert import_from(path)["nodes"] == 7
    assert contents() == before


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
ODD = st.sampled_from(
    ['"', "'", "\n", "\r\n", "\t", "<&>", "]]>", "\\u0000", "\u2028", "\ufffe", "\x7f\x85", "e\u0301", " "]
)
WORDS = st.lists(st.one_of(NAMES, ODD), max_size=4).map("".join)
XML_WORDS = WORDS.map(lambda text: "".join(c for c in text if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff")))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda members: st.lists(members, max_size=3) | st.dictionaries(WORDS, members, max_size=3),
    max_leaves=8,
)


@settings(max_examples=how_many(25, 250))
@given(name=NAMES, error=WORDS, ids=st.lists(XML_WORDS, unique=True, max_size=5), titles=XML_WORDS, parsed=JSON)
def test_odd_contents_are_restored(
    tmp_path: Path, name: str, error: str, ids: list[str], titles: str, parsed: Any
) -> None:
    Account.objects.all().delete()
    node = make_node(make_account(), name, items=0, item_count=len(ids), sync_error=error, subtype=error[:100])
    for place, each in enumerate(ids):
        data = item_xml(each, titles)
        PubsubItem.objects.create(
            node=node, name=each, data=data, parsed=parsed, parse_error=error, text=titles, position=place
        )
    before = contents()
    for form in FORMATS:
        export(tmp_path / form, form)
        PubsubNode.objects.all().delete()
        import_from(tmp_path / form)
        assert contents() == before


def test_export_and_import_use_bounded_memory(path: Path, form: str) -> None:
    node = make_node(make_account(), items=0, item_count=600)
    words = "many words " * 5_000
    for start in range(0, 600, 50):
        PubsubItem.objects.bulk_create(
            PubsubItem(node=node, name=str(n), data=item_xml(str(n), words), position=n)
            for n in range(start, start + 50)
        )
    peaks = []
    for work in (lambda: export(path, form), lambda: import_from(path, "--replace")):
        tracemalloc.start()
        work()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert path.stat().st_size > 32_000_000
    assert max(peaks) < 16_000_000
    assert PubsubItem.objects.count() == 600


# Exports


def test_filters_select_nodes(path: Path) -> None:
    alice, bob = make_account(), make_account(BOB)
    make_node(alice), make_node(alice, "tickets", service=SERVICE, type="ticket"), make_node(bob)

    def exported(*filters: str) -> list[tuple[str, str]]:
        records = map(json.loads, call("pubsub_export", *filters)[0].splitlines())
        return [(record["account"], record["name"]) for record in records if record["kind"] == "node"]

    assert exported() == [(ALICE, NODE), (ALICE, "tickets"), (BOB, NODE)]
    assert exported("-a", BOB) == [(BOB, NODE)]
    assert exported("-s", SERVICE) == [(ALICE, "tickets")]
    assert exported("-n", NODE) == [(ALICE, NODE), (BOB, NODE)]
    assert exported("-t", "ticket", "-t", "blog", "-a", ALICE) == [(ALICE, NODE), (ALICE, "tickets")]
    assert exported("-t", "nothing") == []


def test_no_secret_is_exported(path: Path, form: str) -> None:
    make_node(make_account())
    text = export(path, form).read_text()
    assert "secret" not in text
    assert "password" not in text
    assert path.stat().st_mode & 0o077 == 0


def test_json_lines_have_one_record_per_line() -> None:
    make_node(make_account(), items=1, evicted=1)
    header, node, evicted, item, node_end, end = map(json.loads, call("pubsub_export")[0].splitlines())
    assert {name: header[name] for name in ("kind", "format", "version")} == {
        "kind": "header",
        "format": "pubsubcache export",
        "version": 1,
    }
    assert (node["kind"], node["account"], node["sync_state"], node["access_model"]) == (
        "node",
        ALICE,
        "COMPLETED",
        "open",
    )
    assert evicted == {
        "kind": "evicted",
        "name": "item-0",
        "position": 0,
        "created": "2026-01-31T12:00:00.123456Z",
        "updated": "2026-01-31T12:00:00.123456Z",
    }
    assert (item["data"], item["publisher"]) == (item_xml("item-1", "Title 1", ALICE), ALICE)
    assert node_end == {"kind": "node_end", "items": 1, "evicted": 1, "next_position": 2**32 + 2**31}
    assert end == {"kind": "end", "nodes": 1, "items": 1, "evicted": 1}


def test_xml_has_own_nodes_where_servers_expect_them(path: Path) -> None:
    alice = make_account()
    (
        make_node(alice, 'a "blog"\n<1>', items=2, extra={"payload_type": ATOM}),
        make_node(alice, "empty", items=0, access_model=""),
    )
    make_node(alice, "tickets", service=SERVICE)
    root = xmlform.from_text(export(path, "xml").read_text().partition("?>")[2])
    pie, pubsub, form = "{urn:xmpp:pie:0}", f"{{{xmlform.PUBSUB}}}", "{jabber:x:data}"
    user = root.find(f"{pie}host[@jid='capulet.example']/{pie}user[@name='alice']")
    assert user is not None
    own = user.findall(f"{pubsub}pubsub/{pubsub}items")
    assert [items.get("node") for items in own] == ['a "blog"\n<1>', "empty"]
    assert [item.get("id") for item in own[0].iterfind(f"{pubsub}item")] == ["item-0", "item-1"]
    owner = f"{{{xmlform.PUBSUB}#owner}}"
    configured = {
        element.get("node"): {
            field.get("var"): field.findtext(f"{form}value") for field in element.iter(f"{form}field")
        }
        for element in user.iterfind(f"{owner}pubsub/{owner}configure")
    }
    named = {"FORM_TYPE": f"{xmlform.PUBSUB}#node_config"}
    of_blog = {**named, "pubsub#access_model": "open", "pubsub#type": ATOM}
    assert configured == {'a "blog"\n<1>': of_blog, "empty": named}
    elsewhere = user.findall("{urn:pubsubcache:export}service")
    assert [service.get("jid") for service in elsewhere] == [SERVICE]


def test_node_that_no_import_would_accept_is_not_exported(path: Path) -> None:
    node = make_node(make_account())
    path.write_text("kept")
    PubsubItem.objects.filter(name="item-1").update(data="<item id='item-1'/>")
    with pytest.raises(CommandError) as failed:
        export(path)
    assert failed.value.returncode == 1
    assert str(failed.value) == (
        f"The node '{NODE}' of {ALICE} cannot be exported: "
        "the XML of the item 'item-1' is not an <item/> in normal form."
    )
    assert path.read_text() == "kept"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    node.delete()


def test_unusable_file_is_reported(tmp_path: Path) -> None:
    for command in (["pubsub_export", "-o"], ["pubsub_import"]):
        with pytest.raises(CommandError, match=r"^/.*/nothing/nodes cannot be (read|written): No such file") as failed:
            call(*command, str(tmp_path / "nothing" / "nodes"))
        assert failed.value.returncode == 1


# Imports


def test_imported_nodes_are_not_fresh(path: Path, form: str) -> None:
    account = make_account()
    node = make_node(account, items=5, evicted=2)
    assert cache.freshness(node) is Freshness.FRESH
    before = node.pk
    export(path, form)
    node.delete()
    import_from(path)
    node = PubsubNode.objects.get()
    assert node.pk != before
    assert (node.subscribed, node.checked_at, node.revision) == (False, None, 0)
    assert cache.freshness(node) is Freshness.MISS
    assert scheduling.due(account.pk, 10, token=0) == [node.pk]
    assert set(node.items.values_list("revision", flat=True)) == {0}
    page = cache.look_up(ALICE, NodeAddress(ALICE, NODE), ItemsRequest()).page
    assert page is not None
    assert [entry.item_id for entry in page.entries] == [f"item-{place}" for place in range(7)]


def test_import_keeps_no_state_of_work_in_progress(path: Path) -> None:
    account = make_account()
    for state in (None, "IN_PROGRESS", "COMPLETED", "ERROR", "NO_SYNC"):
        make_node(account, str(state), items=0, sync_state=state, sync_owner="another", sync_done=3)
    export(path)
    import_from(path, "--replace")
    states = dict(PubsubNode.objects.values_list("name", "sync_state"))
    assert states == {
        "None": None,
        "IN_PROGRESS": None,
        "COMPLETED": "COMPLETED",
        "ERROR": "ERROR",
        "NO_SYNC": "NO_SYNC",
    }
    assert not PubsubNode.objects.exclude(sync_owner="").exists()
    due = scheduling.due(account.pk, 10, token=0)
    wanted = PubsubNode.objects.exclude(name="NO_SYNC").values_list("pk", flat=True)
    assert set(due) == set(wanted)


def test_cached_node_is_replaced_only_on_request(path: Path, form: str) -> None:
    account = make_account()
    make_node(account, items=3)
    export(path, form)
    before = contents()
    PubsubItem.objects.filter(name="item-2").delete()
    PubsubNode.objects.update(item_count=2)
    make_node(account, "other")
    sentence = refused(path)
    assert sentence.startswith("Line ")
    assert sentence.endswith(f"the node '{NODE}' of {ALICE} is already in the cache of {ALICE}; --replace replaces it.")
    assert import_from(path, "--replace") == {"nodes": 1, "items": 3, "evicted": 0, "replaced": 1}
    PubsubNode.objects.filter(name="other").delete()
    assert contents() == before
    # The worker subscribes again, and unsubscribes only if the node is not kept.
    assert PendingUnsubscription.objects.filter(account=account, name=NODE).exists()


def test_accounts_must_exist_or_be_mapped(path: Path, form: str) -> None:
    alice = make_account()
    make_node(alice, items=2), make_node(alice, "never", items=0, sync_state="NO_SYNC")
    export(path, form)
    alice.delete()
    bob = make_account(BOB)
    assert f"there is no account {ALICE} here" in refused(path)
    assert "There is no account" in refused(path, "-a", "nobody@x.example")
    assert import_from(path, "--account", BOB)["nodes"] == 2
    node = bob.nodes.get(name=NODE)
    assert (node.service, node.items.count()) == (ALICE, 2)
    # Bob's readers do not see alice's items until the service has sent them to bob.
    assert node.sync_state is None
    assert cache.look_up(BOB, node.address, ItemsRequest()).page is None
    assert bob.nodes.get(name="never").sync_state == "NO_SYNC"


def test_nodes_of_several_accounts_are_not_merged(path: Path) -> None:
    make_node(make_account(), service=SERVICE), make_node(make_account(BOB), service=SERVICE)
    export(path)
    assert "would be imported twice" in refused(path, "-a", ALICE, "--replace")


def test_refused_node_reverts_the_nodes_before_it(path: Path, form: str) -> None:
    account = make_account()
    make_node(account, "a"), make_node(account, "b", service=SERVICE)
    export(path, form)
    PubsubNode.objects.filter(name="a").delete()
    assert "the node 'b'" in refused(path)
    assert [node.name for node in PubsubNode.objects.all()] == ["b"]


def test_choices_of_the_importing_site_decide_what_is_kept(path: Path, form: str) -> None:
    account = make_account()
    (
        make_node(account, "kept", policy="always"),
        make_node(account, "not kept"),
        make_node(account, "other", analyser="x"),
    )
    unkept = {"to_sync": True, "by_analyser": False, "reason": ""}  # staff of the exporting site chose to keep it
    make_node(account, "chosen there", analyser="y", extra=unkept)
    export(path, form)
    choose_analyser("microblog", False)
    done = import_from(path, "--replace")
    states = {node.name: (node.sync_state, node.items.count()) for node in PubsubNode.objects.all()}
    empty = ("NO_SYNC", 0)
    assert states == {"kept": ("COMPLETED", 3), "not kept": empty, "other": ("COMPLETED", 3), "chosen there": empty}
    assert done["items"] == 6


def test_account_that_is_being_removed_counts_as_missing(path: Path) -> None:
    account = make_account()
    make_node(account)
    export(path)
    account.nodes.all().delete()
    Account.objects.update(leaving=True)
    assert "there is no account" in refused(path)
    assert "is being removed" in refused(path, "-a", ALICE)


def test_an_empty_export_is_imported(path: Path, form: str) -> None:
    assert import_from(export(path, form)) == {"nodes": 0, "items": 0, "evicted": 0, "replaced": 0}


def test_full_disk_is_reported(path: Path, exported: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *args, **kwargs: open("/dev/full", "w+"))  # noqa: SIM115
    assert "No space left on device" in refused(path)


# Damage


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def exported(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The records of a node with evicted items, which is no longer in the cache."""
    make_node(make_account(), items=3, evicted=1)
    export(path)
    PubsubNode.objects.all().delete()
    yield records(path)


HEADER, A_NODE, EVICTED, FIRST, SECOND, THIRD, NODE_END, END = range(8)
BIG = "x" * 2049
DAMAGE: list[tuple[int, dict[str, Any], str]] = [
    (HEADER, {"version": 2}, "the export has version 2; only version 1 is supported."),
    (HEADER, {"version": True}, "version of a header must be 1, not True."),
    (HEADER, {"format": "another"}, 'format of a header must be "pubsubcache export", not'),
    (HEADER, {"kind": "end"}, "an end record is not allowed here."),
    (A_NODE, {"account": "alice"}, "account of a node must be the bare JID of an account, not 'alice'."),
    (A_NODE, {"service": "Pubsub.Capulet.Example"}, "service of a node must be a JID"),
    (A_NODE, {"name": ""}, "The name of the node is missing."),
    (A_NODE, {"name": "x" * 3000}, "longer than"),
    (A_NODE, {"name": 5}, "name of a node must be a string, not 5."),
    (A_NODE, {"policy": "perhaps"}, "policy of a node must be one of"),
    (A_NODE, {"sync_state": "DONE"}, "sync_state of a node must be one of"),
    (A_NODE, {"sync_state": "NO_SYNC"}, "which has no items."),
    (A_NODE, {"partial": 1}, "partial of a node must be true or false, not 1."),
    (A_NODE, {"reconcile_interval": 0}, "reconcile_interval of a node must be null or a number of seconds"),
    (A_NODE, {"extra": []}, "extra of a node must be an object"),
    (A_NODE, {"extra": {"limit": "many"}}, "limit of a node must be an integer >= 1, not 'many'."),
    (A_NODE, {"extra": {"unheard": 1}}, "extra of a node has an unknown field 'unheard'."),
    (A_NODE, {"color": "red"}, "a node has an unknown field 'color'."),
    (A_NODE, {"kind": "edge"}, "this is not a record of an export."),
    (A_NODE, {"kind": ["node"]}, "this is not a record of an export."),
    (EVICTED, {"name": BIG}, "name of an evicted must be a string of at most 2048 bytes"),
    (EVICTED, {"position": -1}, "position of an evicted must be an integer"),
    (EVICTED, {"position": 2**70}, "position of an evicted must be an integer"),
    (FIRST, {"name": BIG, "data": item_xml(BIG)}, "name of an item must be a string of at most 2048 bytes"),
    (FIRST, {"name": "item-0", "data": item_xml("item-0")}, "the item 'item-0' appears twice in its node."),
    (FIRST, {"name": "another"}, "the XML of the item 'another' has another id."),
    (FIRST, {"data": item_xml("item-1", publisher=BOB)}, "the XML of the item 'item-1' names another publisher."),
    (FIRST, {"data": "<item"}, "the XML of the item 'item-1' is refused: Not well-formed XML"),
    (FIRST, {"data": "<!DOCTYPE item><item/>"}, "is refused: XML with a document type definition"),
    (FIRST, {"data": f"<item id='item-1' xmlns='{xmlform.PUBSUB}'/>"}, "is not an <item/> in normal form."),
    (FIRST, {"data": '<item id="item-1"/>'}, "is not an <item/> in normal form."),
    (FIRST, {"data": None}, "data of an item must be a string, not None."),
    (FIRST, {"created": "yesterday"}, "created of an item must be a time with a time zone"),
    (FIRST, {"created": "2026-01-31T12:00:00"}, "created of an item must be a time with a time zone"),
    (FIRST, {"created": "0001-01-01T00:00:00+23:00"}, "created of an item must be a time with a time zone"),
    (FIRST, {"parsed": {"title": "\0"}}, "parsed of an item must be data without NUL"),
    (FIRST, {"parsed": {"\ud800": 1}}, "parsed of an item must be data without NUL"),
    (FIRST, {"text": "\udfff"}, "text of an item must be a string"),
    (SECOND, {"position": 0}, "the item 'item-2' follows an item with a higher position."),
    (NODE_END, {"items": 4}, "the node should have 4 items, but has 3."),
    (NODE_END, {"evicted": 0}, "the node should have 0 evicted, but has 1."),
    (NODE_END, {"next_position": 2}, "next_position is lower than the position of an item."),
    (END, {"nodes": 2}, "the file should have 2 nodes, but has 1."),
    (END, {"items": True}, "items of an end must be an integer >= 0, not True."),
]


@pytest.mark.parametrize(("line", "change", "reason"), DAMAGE)
def test_invalid_record_is_reported(
    path: Path, exported: list[dict[str, Any]], line: int, change: dict[str, Any], reason: str
) -> None:
    exported[line] |= change
    path.write_text("\n".join(map(json.dumps, exported)))
    sentence = refused(path)
    # A node is checked when its items follow.
    assert sentence.startswith(f"Line {line + 1 + (reason == 'which has no items.')}: ")
    assert reason in sentence
    assert not PubsubNode.objects.exists()


LINES: list[tuple[str, int, str]] = [
    ("{", 3, "this is not JSON"),
    ("", 3, "this is not JSON"),
    ("[1]", 3, "this is not a record of an export."),
    ('{"kind": "item", "kind": "item"}', 3, "an object has a duplicate key."),
    ('{"kind": NaN}', 3, "NaN is not a JSON number."),
    ('{"kind": "item", "parsed": 1e999}', 3, "an item lacks"),
    ("[" * 100_000, 3, "this is nested too deeply."),
    ("1" * 5_000, 3, "Exceeds the limit"),
    ("\x01", 3, "this is not JSON"),
]


@pytest.mark.parametrize(("text", "line", "reason"), LINES)
def test_invalid_line_is_reported(
    path: Path, exported: list[dict[str, Any]], text: str, line: int, reason: str
) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[: line - 1], text, *lines[line - 1 :]]) + "\n")
    sentence = refused(path)
    assert sentence.startswith(f"Line {line}: ")
    assert reason in sentence


def test_infinity_is_refused(path: Path, exported: list[dict[str, Any]]) -> None:
    path.write_text(path.read_text().replace("null, 1.5", "null, 1e999").replace("null,1.5", "null,1e999"))
    assert "parsed of an item must be data without" in refused(path)


@pytest.mark.parametrize("line", range(8))
def test_missing_or_repeated_line_is_refused(path: Path, exported: list[dict[str, Any]], line: int) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:line] + lines[line + 1 :]))
    assert refused(path).startswith("Line ")
    path.write_text("".join(lines[: line + 1] + lines[line:]))
    assert refused(path).startswith(f"Line {line + 2}: ")


def test_long_lines_are_refused(path: Path, exported: list[dict[str, Any]], settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_ITEM_SIZE = 100
    exported[A_NODE]["sync_error"] = "x" * 1600
    path.write_text("\n".join(map(json.dumps, exported)))
    assert refused(path) == "Line 2: the line is longer than 1600 bytes."


def test_items_over_the_limit_are_refused(path: Path, form: str, settings: Any) -> None:
    make_node(make_account())
    export(path, form)
    PubsubNode.objects.all().delete()
    settings.PUBSUBCACHE_MAX_ITEM_SIZE = 150
    assert "is longer than 150 bytes" in refused(path)


@pytest.mark.parametrize("form", FORMATS)
def test_truncated_file_is_refused(path: Path, form: str) -> None:
    make_node(make_account(), items=2, evicted=1)
    export(path, form)
    PubsubNode.objects.all().delete()
    whole = path.read_bytes().rstrip()
    line_ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for length in [*range(0, len(whole), 1 + len(whole) // 150), *line_ends, *(end + 1 for end in line_ends)]:
        path.write_bytes(whole[:length])
        assert refused(path)
    path.write_bytes(whole)
    assert import_from(path)["items"] == 2


@pytest.mark.parametrize("form", FORMATS)
def test_corrupted_export_never_causes_a_traceback(path: Path, form: str) -> None:
    make_node(make_account(), items=2, evicted=1)
    export(path, form)
    PubsubNode.objects.all().delete()
    whole = path.read_bytes()
    for place in range(0, len(whole), 1 + len(whole) // how_many(50, 200)):
        for byte in (b"<", b'"', b"\xff", b"9"):
            path.write_bytes(whole[:place] + byte + whole[place + 1 :])
            try:
                import_from(path, "--replace")
            except CommandError as error:
                assert error.returncode == 1


def test_import_of_another_format_is_refused(path: Path) -> None:
    path.write_text("")
    assert refused(path) == "The file is empty."
    path.write_text("hello")
    assert refused(path) == "Line 1: this is not an export in a known format."


XML_DAMAGE = [
    ("<server-data ", "<!DOCTYPE server-data><server-data ", "a document type definition is refused."),
    ("<server-data ", "<other/><server-data ", "<other/> is not allowed here."),
    ('xmlns="urn:xmpp:pie:0"', 'xmlns="urn:xmpp:pie:1"', "<server-data/> is not allowed here."),
    ('<user name="alice">', '<user name="bob">', "name different nodes."),
    ('<user name="alice">', '<user name="alice">words', "text is not allowed here."),
    ('<user name="alice">', '<user name="alice"><vCard xmlns="vcard-temp"/>', "<vCard/> is not allowed here."),
    ('<host jid="capulet.example">', '<host jid="other.example">', "name different nodes."),
    (f'<items node="{NODE}">', '<items node="other">', "name different nodes."),
    ('<json xmlns="urn:xmpp:json:0">{"kind":"item","name":"item-1"', "<json>{", "<json/> is not allowed here."),
    (
        '"kind":"item","name":"item-1"',
        '"kind":"item","data":"","name":"item-1"',
        "the record of an item contains its XML",
    ),
    ('"kind":"item","name":"item-1"', '"kind":"evicted","name":"item-1"', "an item and its record are not adjacent"),
    ('{"kind":"item","name":"item-1"', '<a/>{"kind":"item","name":"item-1"', "there is an element inside JSON."),
    ('"name":"item-1"', '"name":"item-9"', "the XML of the item 'item-9' has another id."),
    ("Title 1</title>", "Title 1", "this is not well-formed XML: mismatched tag."),
    ("Title 1</title>", "&lol;</title>", "this is not well-formed XML: undefined entity."),
    (
        "</items>\n",
        f'</items>\n<items node="{NODE}">\n<json xmlns="urn:xmpp:json:0">{{}}</json></items>',
        "wrong place",
    ),
]


@pytest.mark.parametrize(("text", "other", "reason"), XML_DAMAGE)
def test_invalid_xml_is_refused_with_its_line(path: Path, text: str, other: str, reason: str) -> None:
    make_node(make_account(), items=3)
    export(path, "xml")
    PubsubNode.objects.all().delete()
    whole = path.read_text()
    assert text in whole
    path.write_text(whole.replace(text, other, 1))
    sentence = refused(path)
    assert reason in sentence
    line = whole[: whole.index(text)].count("\n") + 1
    number = int(sentence.removeprefix("Line ").partition(":")[0])
    assert line <= number <= line + 6


def test_xml_rewritten_by_another_program_is_imported(path: Path) -> None:
    make_node(make_account(), items=3)
    before = contents()
    export(path, "xml")
    PubsubNode.objects.all().delete()
    text = path.read_text().replace('xmlns="urn:xmpp:pie:0"', "xmlns='urn:xmpp:pie:0'").replace("\n", "\r\n")
    text = text.replace(
        f'<item xmlns="{xmlform.PUBSUB}" id="item-0">', f"<p:item id='item-0' xmlns:p='{xmlform.PUBSUB}'>"
    )
    path.write_text(text.replace("</item>", "</p:item>", 1), newline="")
    import_from(path)
    assert contents() == before


def test_depth_is_bounded(path: Path, settings: Any) -> None:
    make_node(make_account(), items=1)
    export(path, "xml")
    PubsubNode.objects.all().delete()
    path.write_text(path.read_text().replace("Title 0", "<a>" * 100_000 + "</a>" * 100_000))
    assert refused(path).endswith("this is nested deeper than 5000 elements.")


@pytest.mark.parametrize("form", ["jsonl", "xml"])
def test_export_piped_to_import_keeps_non_ascii_text_in_any_locale(live_database: None, manage: Any, form: str) -> None:
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
