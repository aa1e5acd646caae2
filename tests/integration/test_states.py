"""Test the words for the state of a node: Python and the database agree on each, and on its explanation."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.models import Account, PubsubEvicted, PubsubNode
from pubsubcache.states import Word, counts, notes_of, state_of, with_state, word_in_database
from tests.admin_data import account, node, online

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]
NOW = timezone.now
SOON = {"next_attempt": timedelta(hours=1)}  # a time from now, see `node_with`


def completed(**fields: Any) -> dict[str, Any]:
    return {"sync_state": "COMPLETED", "checked_at": timedelta(), "compared_at": timedelta(), **fields}


def running(**fields: Any) -> dict[str, Any]:
    return {"sync_owner": "somebody", "sync_heartbeat": timedelta(), "sync_done": 10, "sync_total": 20, **fields}


def old(**fields: Any) -> dict[str, Any]:
    return completed(checked_at=-timedelta(days=1), **fields)


def node_with(of: Account, **fields: Any) -> PubsubNode:
    """Create a node. Times are given relative to now, because cases are collected long before they run."""
    now = NOW()
    times = {name: now + value for name, value in fields.items() if isinstance(value, timedelta)}
    return node(of, **{**fields, **times})


def evict(of: PubsubNode, *, reason: str = "") -> None:
    now = NOW()
    PubsubEvicted.objects.create(node=of, name="gone", position=1, created=now, updated=now, reason=reason)
    PubsubNode.objects.filter(pk=of.pk).update(evicted_count=1)


def shown(**query: Any) -> PubsubNode:
    return with_state(PubsubNode.objects.filter(**query)).get()


ERROR = {"sync_state": "ERROR", "sync_error": "The service refused: forbidden."}
UNAVAILABLE = {"unavailable_count": 5, "sync_error": "unavailable", "sync_state": "ERROR"}


@pytest.mark.parametrize(
    ("owner", "fields", "word", "kind", "explanation"),
    [
        ("online", completed(subscribed=True), "followed", "good", "Notifications report every change."),
        ("online", completed(), "fresh", "good", "it is fresh until"),
        ("offline", completed(subscribed=True), "fresh", "good", "it is fresh until"),
        ("online", old(), "stale", "warn", "Last checked at"),
        ("online", old(), "stale", "warn", "Reads ask the service."),
        ("offline", old(subscribed=True), "stale", "warn", "No worker holds the account."),
        ("online", completed(checked_at=None, compared_at=None), "stale", "warn", "It must be checked."),
        ("disabled", old(subscribed=True), "stale", "warn", "The account is disabled."),
        ("connecting", completed(subscribed=True), "stale", "warn", "The account is offline."),
        ("online", completed(subscribed=True, probe=[]), "revalidating", "busy", "reads ask the service until"),
        ("online", completed(**running()), "revalidating", "busy", "10 of 20 items read"),
        ("online", {"sync_state": "IN_PROGRESS", **running()}, "first-sync", "busy", "10 of 20 items read"),
        ("online", {"sync_state": "IN_PROGRESS", **running(sync_total=None)}, "first-sync", "busy", "10 items read"),
        ("online", {}, "waiting", "busy", "A worker will synchronise it soon."),
        ("online", {"sync_state": "IN_PROGRESS"}, "waiting", "busy", "A worker will synchronise it soon."),
        ("online", SOON, "waiting", "warn", "It is tried again at"),
        ("disabled", {}, "waiting", "warn", "The account is disabled."),
        ("leaving", {}, "waiting", "warn", "The account is being removed."),
        ("refused", {}, "waiting", "warn", "The account has no session: login refused."),
        ("offline", {}, "waiting", "warn", "No worker holds the account."),
        ("online", {**ERROR, "sync_requested": timedelta()}, "waiting", "busy", "A worker will synchronise it soon."),
        ("online", ERROR, "refused", "bad", "hidden: The service refused: forbidden."),
        ("online", {**UNAVAILABLE, **SOON}, "refused", "bad", "It is tried again at"),
        ("online", {**ERROR, **SOON}, "failing", "bad", "forbidden. It is tried again at"),
        ("offline", {**ERROR, **SOON}, "failing", "bad", "forbidden. No worker holds the account."),
        ("online", completed(checked_at=None, failures=2, sync_error="Slow.", **SOON), "failing", "bad", "Slow. It is"),
        ("online", {"sync_state": "NO_SYNC", "sync_error": "Staff decided."}, "not-synchronised", "quiet", "Staff"),
        ("online", {"sync_state": "NO_SYNC"}, "not-synchronised", "quiet", "Reads go to the service."),
    ],
)  # fmt: skip
def test_state_is_given_in_a_word_with_its_reason(
    owner: str, fields: dict[str, Any], word: str, kind: str, explanation: str
) -> None:
    accounts = {
        "online": online(),
        "offline": {},
        "connecting": online(status="connecting"),
        "disabled": {"enabled": False},
        "leaving": online(leaving=True),
        "refused": {"status": "auth_failed"},
    }
    node_with(account(**accounts[owner]), **fields)
    state = state_of(shown())
    assert (state.word, state.kind) == (word, kind)
    assert explanation in state.explanation


def test_purged_node_is_evicted_and_not_merely_empty() -> None:
    of = node_with(account(**online()), **completed(subscribed=True))
    assert state_of(shown()).word == Word.FOLLOWED
    evict(of)
    state = state_of(shown())
    assert (state.word, state.label) == (Word.EVICTED, "all evicted")
    assert "1 item was purged from the cache." in state.explanation


def test_partly_purged_node_says_so_beside_its_state() -> None:
    of = node_with(account(**online()), items=1, **completed(subscribed=True))
    assert notes_of(shown()) == []
    evict(of)
    assert state_of(shown()).word == Word.FOLLOWED
    assert [note.label for note in notes_of(shown())] == ["part evicted"]


def test_items_that_cannot_be_stored_do_not_count_as_evicted() -> None:
    evict(node_with(account(**online()), **completed(subscribed=True)), reason="too large")
    assert state_of(shown()).word == Word.FOLLOWED
    assert notes_of(shown()) == []


def test_requested_sync_is_shown_beside_the_state() -> None:
    node_with(account(enabled=False), **completed(), sync_requested=timedelta())
    assert [(note.label, note.explanation) for note in notes_of(shown())] == [
        ("sync requested", "The account is disabled.")
    ]


def around(now: datetime, *seconds: float) -> st.SearchStrategy[datetime | None]:
    return st.sampled_from([None, *(now + timedelta(seconds=number) for number in seconds)])


@given(data=st.data())
def test_queries_and_python_agree_on_every_node(data: st.DataObject) -> None:
    Account.objects.all().delete()
    now = NOW()
    times = around(now, -100_000, -200, -30, -1, 1, 3_600)
    owner = Account.objects.create(
        jid="alice@example.org",
        enabled=data.draw(st.booleans()),
        worker=data.draw(st.sampled_from(["", "host:1"])),
        heartbeat=data.draw(times),
        status=data.draw(st.sampled_from(["online", "connecting", "error"])),
        fencing_token=1,
    )
    of = node(
        owner,
        items=data.draw(st.integers(0, 1)),
        subscribed=data.draw(st.booleans()),
        sync_state=data.draw(st.sampled_from([None, *PubsubNode.SyncState.values, "COMPLETED", "COMPLETED"])),
        checked_at=data.draw(times),
        checked_token=data.draw(st.integers(0, 1)),
        probe=data.draw(st.sampled_from([None, None, []])),
        failures=data.draw(st.integers(0, 1)),
        unavailable_count=data.draw(st.sampled_from([0, 5])),
        next_attempt=data.draw(times),
        sync_requested=data.draw(times),
        sync_owner=data.draw(st.sampled_from(["", "", "host:1/a"])),
        sync_heartbeat=data.draw(times),
    )
    if data.draw(st.booleans()):
        evict(of, reason=data.draw(st.sampled_from(["", "too large"])))
    word = state_of(shown()).word
    assert PubsubNode.objects.annotate(word=word_in_database()).values_list("word", flat=True).get() == word
    assert counts(PubsubNode.objects.all()) == {word: 1}
