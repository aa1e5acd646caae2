"""Says in words what the copy of a node is worth and what happens to it, for the admin and for commands.

`state_of` decides in Python, `word_in_database` decides the same in a query, so that lists can filter and count.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Case, CharField, Count, Exists, F, OuterRef, Q, TextChoices, Value, When
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from pubsubcache.cache import Freshness, freshness
from pubsubcache.conf import settings
from pubsubcache.models import Account, PubsubEvicted, PubsubNode, PubsubNodeQuerySet
from pubsubcache.models.node import claim_timeout
from pubsubcache.models.timed import heartbeat_expired
from pubsubcache.store.nodes import UNAVAILABLE_ANSWERS
from pubsubcache.utils import clock

SyncState = PubsubNode.SyncState
MOMENT = "Y-m-d H:i T"  # the only format of times, with the time zone


class Word(TextChoices):
    """The words for the state of a node."""

    FOLLOWED = "followed", gettext_lazy("followed")
    FRESH = "fresh", gettext_lazy("fresh")
    STALE = "stale", gettext_lazy("stale")
    REVALIDATING = "revalidating", gettext_lazy("revalidating")
    FIRST_SYNC = "first-sync", gettext_lazy("first sync")
    WAITING = "waiting", gettext_lazy("waiting")
    EVICTED = "evicted", gettext_lazy("evicted")
    REFUSED = "refused", gettext_lazy("refused")
    FAILING = "failing", gettext_lazy("failing")
    NOT_SYNCHRONISED = "not-synchronised", gettext_lazy("not synchronised")


#: How a state is judged: good, busy (work that ends by itself), warn, bad, or quiet (as somebody decided).
KINDS: Mapping[str, str] = {
    Word.FOLLOWED: "good",
    Word.FRESH: "good",
    Word.STALE: "warn",
    Word.REVALIDATING: "busy",
    Word.FIRST_SYNC: "busy",
    Word.WAITING: "busy",
    Word.EVICTED: "warn",
    Word.REFUSED: "bad",
    Word.FAILING: "bad",
    Word.NOT_SYNCHRONISED: "quiet",
}


@dataclass(frozen=True, slots=True)
class NodeState:
    """A state of a node, or something else to know about it.

    Attributes:
        word: The state.
        kind: How it is judged: good, busy, warn, bad or quiet.
        label: A few words for a badge.
        explanation: Since when, why, and what comes next: one or more sentences, or "".
    """

    word: Word
    kind: str
    label: str
    explanation: str = ""


def with_state(nodes: PubsubNodeQuerySet) -> PubsubNodeQuerySet:
    """Return the same nodes with all that `state_of` needs, read in one query."""
    evicted = Case(When(evicted_count__gt=0, then=_has_evicted()), default=Value(False))
    found = nodes.select_related("account").defer("account__password", "account__status_detail")
    return found.with_time().annotate(has_evicted=evicted)


def state_of(node: PubsubNode) -> NodeState:
    """Return the state of a node.

    For a node that was not read `with_state`, this may query the database, and items that cannot be stored count as
    evicted.
    """
    now = node.as_of or clock.now()
    word = _word(node, now)
    kind, label = KINDS[word], str(word.label)
    obstacle = _obstacle(node.account, now)
    match word:
        case Word.FOLLOWED:
            text = _("Notifications report every change.")
        case Word.FRESH:
            until = node.checked_at and node.checked_at + timedelta(seconds=settings.MAX_AGE)
            text = _("No notifications report changes. As it was checked recently, it is fresh until %(time)s.") % {
                "time": _at(until)
            }
        case Word.STALE:
            text = _joined(_not_checked_since(node), obstacle or _("Reads ask the service."))
        case Word.REVALIDATING if not node.sync_owner:
            text = _("The order of its items is not known for sure, so reads ask the service until it is checked.")
        case Word.REVALIDATING | Word.FIRST_SYNC:
            text = progress_text(node)
        case Word.WAITING:
            kind, text = _waiting(node, obstacle, now)
        case Word.EVICTED:
            label = _("all evicted")
            text = _joined(
                ngettext(
                    "%(count)s item was purged from the cache. Reads ask the service.",
                    "All %(count)s items were purged from the cache. Reads ask the service.",
                    node.evicted_count,
                )
                % {"count": _number(node.evicted_count)},
                obstacle,
            )
        case Word.REFUSED:
            text = _joined(_("The service refuses to answer, so the items are hidden:"), node.sync_error)
            text = _joined(text, _next_attempt(node, obstacle) if node.next_attempt else "")
        case Word.FAILING:
            text = _joined(node.sync_error, _next_attempt(node, obstacle))
        case Word.NOT_SYNCHRONISED:
            text = node.sync_error or node.analysis_reason or _("Reads go to the service.")
    return NodeState(word, kind, label, text)


def notes_of(node: PubsubNode) -> list[NodeState]:
    """Return what else to know about a node whose state is another: a requested synchronisation, evicted items."""
    now = node.as_of or clock.now()
    notes = []
    if node.sync_requested is not None and _word(node, now) is not Word.WAITING:
        kind, text = _waiting(node, _obstacle(node.account, now), now)
        notes.append(NodeState(Word.WAITING, kind, _("sync requested"), text))
    if node.item_count and _lacks_items(node):
        text = _("Reads ask the service for the items that are missing here: purged ones, or all but the newest.")
        notes.append(NodeState(Word.EVICTED, KINDS[Word.EVICTED], _("part evicted"), text))
    return notes


def progress_text(node: PubsubNode) -> str:
    """Return how far the running synchronisation of a node is."""
    if node.sync_total is None:
        text = ngettext("%(done)s item read", "%(done)s items read", node.sync_done)
        return text % {"done": _number(node.sync_done)}
    return _("%(done)s of %(total)s items read") % {
        "done": _number(node.sync_done),
        "total": _number(node.sync_total),
    }


def counts(nodes: PubsubNodeQuerySet) -> dict[Word, int]:
    """Return the number of `nodes` in each state that occurs, in the order of `Word`."""
    found = nodes.order_by().values_list(word_in_database()).annotate(number=Count("pk"))
    numbers = dict(found)
    return {word: numbers[word] for word in Word if word in numbers}


def word_in_database(now: datetime | None = None) -> Case:
    """Return the expression for the state of a node that a query finds.

    Args:
        now: The time by the database's clock. The default is the current time.
    """
    now = now or clock.now()
    held = ~Q(account__worker="") & ~heartbeat_expired("account__heartbeat", settings.LEASE_TIMEOUT, now)
    followed = (
        Q(subscribed=True, checked_at__isnull=False, checked_token=F("account__fencing_token"))
        & Q(account__status=Account.Status.ONLINE)
        & held
    )
    recent = ~heartbeat_expired("checked_at", settings.MAX_AGE, now)
    claimed = ~Q(sync_owner="") & ~heartbeat_expired("sync_heartbeat", claim_timeout(), now)
    completed = Q(sync_state=SyncState.COMPLETED)
    decided = Q(sync_state__in=[SyncState.NO_SYNC, SyncState.ERROR], sync_requested__isnull=True)
    hidden = Q(item_count=0, unavailable_count__gte=UNAVAILABLE_ANSWERS)
    return Case(
        When(claimed & completed, then=Value(Word.REVALIDATING.value)),
        When(claimed, then=Value(Word.FIRST_SYNC.value)),
        When(completed & Q(failures__gt=0, checked_at__isnull=True), then=Value(Word.FAILING.value)),
        When(completed & Q(item_count=0, evicted_count__gt=0) & _has_evicted(), then=Value(Word.EVICTED.value)),
        When(completed & followed & Q(probe__isnull=False), then=Value(Word.REVALIDATING.value)),
        When(completed & followed, then=Value(Word.FOLLOWED.value)),
        When(completed & Q(probe__isnull=True) & recent & ~(held & Q(subscribed=True)), then=Value(Word.FRESH.value)),
        When(completed, then=Value(Word.STALE.value)),
        When(~decided, then=Value(Word.WAITING.value)),
        When(sync_state=SyncState.NO_SYNC, then=Value(Word.NOT_SYNCHRONISED.value)),
        When(Q(next_attempt__isnull=True) | hidden, then=Value(Word.REFUSED.value)),
        default=Value(Word.FAILING.value),
        output_field=CharField(),
    )


def _has_evicted() -> Exists:
    return Exists(PubsubEvicted.objects.filter(node=OuterRef("pk"), reason=""))


def _word(node: PubsubNode, now: datetime) -> Word:
    if node.sync_owner and clock.is_recent(node.sync_heartbeat, now, claim_timeout()):
        return Word.REVALIDATING if node.sync_state == SyncState.COMPLETED else Word.FIRST_SYNC
    if node.sync_state == SyncState.COMPLETED:
        return _word_for_copy(node, now)
    if node.sync_requested is not None or node.sync_state not in (SyncState.NO_SYNC, SyncState.ERROR):
        return Word.WAITING
    if node.sync_state == SyncState.NO_SYNC:
        return Word.NOT_SYNCHRONISED
    is_hidden = not node.item_count and node.unavailable_count >= UNAVAILABLE_ANSWERS
    return Word.REFUSED if node.next_attempt is None or is_hidden else Word.FAILING


def _word_for_copy(node: PubsubNode, now: datetime) -> Word:
    """Return the word for a node that was synchronised and is not being synchronised now."""
    if node.failures and node.checked_at is None:
        return Word.FAILING
    if not node.item_count and _lacks_items(node):
        return Word.EVICTED
    if node.is_followed(now):
        return Word.REVALIDATING if node.is_order_unknown else Word.FOLLOWED
    return Word.FRESH if freshness(node) is Freshness.FRESH else Word.STALE


def _lacks_items(node: PubsubNode) -> bool:
    """Whether the service has items of a node that the cache could store, but does not."""
    return bool(node.evicted_count and getattr(node, "has_evicted", True))


def _obstacle(account: Account, now: datetime) -> str:
    """Return why an account has no session, or ""."""
    if account.leaving:
        return _("The account is being removed.")
    if not account.enabled:
        return _("The account is disabled.")
    if account.status in (Account.Status.AUTH_FAILED, Account.Status.ERROR):
        return _("The account has no session: %(status)s.") % {"status": Account.Status(account.status).label}
    if not account.is_held(now):
        return _("No worker holds the account.")
    return "" if account.status == Account.Status.ONLINE else _("The account is offline.")


def _waiting(node: PubsubNode, obstacle: str, now: datetime) -> tuple[str, str]:
    """Return the kind and the explanation of waiting for a synchronisation."""
    if obstacle:
        return "warn", obstacle
    if node.sync_requested is None and node.next_attempt is not None and node.next_attempt > now:
        return "warn", _next_attempt(node, "")
    return KINDS[Word.WAITING], _("A worker will synchronise it soon.")


def _next_attempt(node: PubsubNode, obstacle: str) -> str:
    """Return when a node that failed is tried again."""
    if obstacle:
        return obstacle
    if node.next_attempt is None:
        return _("It is tried again at the next read.")
    return _("It is tried again at %(time)s.") % {"time": _at(node.next_attempt)}


def _not_checked_since(node: PubsubNode) -> str:
    if (checked := node.checked_at or node.compared_at) is None:
        return _("It must be checked.")
    return _("Last checked at %(time)s; it may have changed since.") % {"time": _at(checked)}


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _at(moment: datetime | None) -> str:
    return "" if moment is None else date_format(timezone.localtime(moment), MOMENT)


def _number(value: int) -> str:
    return number_format(value, use_l10n=True, force_grouping=True)
