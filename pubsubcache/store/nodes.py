"""Rows of nodes: found, made, judged by the analysers, steered by staff, removed."""

from collections.abc import Collection
from dataclasses import replace
from functools import cache

from django.db import models, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from pubsubcache.analysers import Analysis, registry
from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest
from pubsubcache.models import Account, AnalyserChoice, PendingUnsubscription, PubsubNode
from pubsubcache.store.choices import locked_choice
from pubsubcache.store.evicting import drop_items
from pubsubcache.store.fairness import besides, with_domain
from pubsubcache.store.leases import fenced
from pubsubcache.store.statements import Statement
from pubsubcache.types import MAX_NUMBER, NodeAddress, check_text
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import one_line

# Service and name stand in one unique index, and PostgreSQL's index rows end at 2704 bytes.
MAX_ADDRESS_BYTES = 2500
SyncState = PubsubNode.SyncState
Policy = PubsubNode.Policy

NODE_COLUMNS = [field.attname for field in PubsubNode._meta.concrete_fields]
# Without the password, which is of no use to readers.
ACCOUNT_COLUMNS = [field.attname for field in Account._meta.concrete_fields if field.attname != "password"]
# What the analysers decide.
JUDGEMENT = (
    "analyser", "type", "subtype", "to_sync", "by_analyser", "registry_fingerprint", "analysis_reason",
)  # fmt: skip
NO_ANALYSER = "No analyser matches."


def find_node(account_jid: str, address: NodeAddress) -> PubsubNode | None:
    """Return the row of a node with its account, in one query, or None; `as_of` of the row is set."""
    alias = PubsubNode.objects.db
    for row in _finding(alias).rows(account_jid, address.service, address.name):
        node = PubsubNode.from_db(alias, NODE_COLUMNS, row[: len(NODE_COLUMNS)])
        node.account = Account.from_db(alias, ACCOUNT_COLUMNS, row[len(NODE_COLUMNS) : -1])
        node.as_of = row[-1]
        return node
    return None


@cache
def _finding(alias: str) -> Statement:
    jid, service, name = placeholders = ("jid", "service", "name")
    found = PubsubNode.objects.using(alias).filter(account__jid=jid, service=service, name=name).order_by()
    columns = [*NODE_COLUMNS, *(f"account__{name}" for name in ACCOUNT_COLUMNS)]
    return Statement.of(found.values_list(*columns, Now()), placeholders)


def load_node(pk: int) -> PubsubNode | None:
    """Return the row of a node with its account, as it is now, or None; `as_of` of the row is set."""
    found = PubsubNode.objects.select_related("account").defer("account__password").filter(pk=pk)
    return found.with_time().first()


def load_account(account_jid: str) -> Account | None:
    """Return an account, or None when there is none or it is being removed; `as_of` of the row is set."""
    return Account.objects.filter(jid=account_jid, leaving=False).with_time().first()


def domains_of(pks: Collection[int]) -> dict[int, str]:
    """Return the domains of the services of nodes, by the nodes' keys; without those that are gone."""
    return dict(with_domain(PubsubNode.objects.filter(pk__in=list(pks))).values_list("pk", "domain"))


def check_address(address: NodeAddress) -> None:
    """Raise `InvalidRequest` for a node that can't be kept: no name, or one that is too long or no text."""
    if not address.name:
        raise InvalidRequest("The name of the node is missing.")
    check_text("The name of the node", address.name)
    if len(address.service.encode()) + len(address.name.encode()) > MAX_ADDRESS_BYTES:
        raise InvalidRequest(f"The address of the node is longer than {MAX_ADDRESS_BYTES} bytes.")


def wants_sync(node: PubsubNode) -> bool:
    """Whether the node is to be kept in the cache, by its policy and its analyser."""
    if node.policy == Policy.AUTO:
        return bool(node.to_sync or node.by_hand)
    return node.policy == Policy.ALWAYS


@fenced
def save_analysis(account_jid: str, address: NodeAddress, analysis: Analysis | None, error: str = "") -> PubsubNode:
    """Keep what the analysers said of a node, making its row if there is none; `error` says why they couldn't."""
    choice = _choice_for(analysis)
    node = adopt_node(account_jid, address)
    _judge(node, analysis, error, choice)
    _settle(node)
    node.save()
    return node


@fenced
def keep_analysis(pk: int, analysis: Analysis | None, error: str = "") -> PubsubNode | None:
    """Keep what the analysers said of a node that is being synchronised.

    Its state is left, unless it is no longer to be synchronised, while it was before: then it is emptied.
    """
    choice = _choice_for(analysis)
    node = PubsubNode.objects.select_related("account").select_for_update(of=("self",)).filter(pk=pk).first()
    if node is None:
        return None
    before = wants_sync(node)
    _judge(node, analysis, error, choice)
    if before and not wants_sync(node):
        _settle(node)
        node.save()
    else:
        node.save(update_fields=JUDGEMENT)
    return node


def _choice_for(analysis: Analysis | None) -> bool | None:
    return None if analysis is None else locked_choice(analysis.name).to_sync


def _judge(node: PubsubNode, analysis: Analysis | None, error: str, choice: bool | None) -> None:
    node.analyser, node.type, node.subtype = "", "", ""
    if analysis is not None:
        node.analyser, node.type, node.subtype = analysis.name, analysis.type, analysis.subtype
    node.by_analyser = bool(analysis and analysis.to_sync)
    node.registry_fingerprint = "" if error else registry.fingerprint()  # "": analysed again at the next read
    _weigh(node, choice)
    if error:
        node.analysis_reason = error


def is_otherwise(node: PubsubNode, choice: bool | None) -> bool:
    """Whether a node was judged under another choice for its analyser, so that it came out otherwise."""
    judged = bool(node.to_sync)
    said = judged if node.by_analyser is None else node.by_analyser
    return judged != (said if choice is None else choice)


def _weigh(node: PubsubNode, choice: bool | None) -> None:
    """Set whether a node is to be synchronised as far as analysers go: staff's choice wins over what theirs said."""
    if node.by_analyser is None:
        node.by_analyser = bool(node.to_sync)
    node.to_sync = node.by_analyser if choice is None else choice
    if not node.analyser:
        node.analysis_reason = NO_ANALYSER
    elif node.to_sync:
        node.analysis_reason = ""
    elif choice is None:
        node.analysis_reason = f"The analyser {node.analyser} does not synchronise this node."
    else:
        node.analysis_reason = f"Staff decided: nodes of the analyser {node.analyser} are not synchronised."


@transaction.atomic
def choose_analyser(name: str, to_sync: bool | None) -> tuple[AnalyserChoice, int]:
    """Keep what staff want of the nodes of an analyser, None to leave it to the analyser.

    Nodes with a policy of their own are left. Of the others those that are no longer to be synchronised are emptied at
    once, and their subscriptions given up. Return the choice, and for how many nodes that changed something.
    """
    choice = locked_choice(name)
    choice.to_sync = to_sync
    choice.save()
    changed = 0
    for node in PubsubNode.objects.select_for_update().filter(analyser=name).order_by("pk"):
        changed += apply_choice(node, to_sync)
        node.save()
    return choice, changed


def apply_choice(node: PubsubNode, choice: bool | None) -> bool:
    """Bring a node in line with staff's choice for its analyser; return whether that made it kept, or not kept.

    The caller saves.
    """
    before, state = wants_sync(node), node.sync_state
    _weigh(node, choice)
    is_given_up = (
        node.policy == Policy.AUTO and not wants_sync(node) and (choice is False or state == SyncState.NO_SYNC)
    )
    if is_given_up or before != wants_sync(node):
        _settle(node)
    return (state == SyncState.NO_SYNC) != (node.sync_state == SyncState.NO_SYNC)


def _settle(node: PubsubNode) -> None:
    """Bring the state in line with whether the node is to be synchronised; what is in sync stays."""
    if wants_sync(node):
        if node.sync_state == SyncState.NO_SYNC:
            set_state(node, None)
            node.next_attempt = None
    else:
        unfollow(node)
        reason = "Staff decided: never synchronise." if node.policy == Policy.NEVER else node.analysis_reason or ""
        set_state(node, SyncState.NO_SYNC, reason)
        node.checked_at = None


def set_state(node: PubsubNode, state: str | None, error: str = "") -> None:
    """Set the sync state of `node`, with the time and the reason; the caller saves."""
    if node.sync_state != state:
        node.sync_state = state
        node.sync_state_updated = clock.now()
    node.sync_error = one_line(error)


def _learn_from_neighbours(node: PubsubNode) -> None:
    """Take over what other nodes showed of the service's ways."""
    known = PubsubNode.objects.filter(account_id=node.account_id, service=node.service).exclude(pk=node.pk)
    for moves in known.filter(moves__isnull=False).values_list("moves", flat=True)[:1]:
        node.moves = moves


@fenced
def adopt_node(account_jid: str, address: NodeAddress, *, by_hand: bool = False) -> PubsubNode:
    """Return the row of a node, making it if there is none.

    `by_hand`: it is to be kept in sync from now on, though no analyser may say so.
    Raises `Account.DoesNotExist`.
    """
    account = Account.objects.get(jid=account_jid, leaving=False)
    own = address.service == account.jid
    node, created = PubsubNode.objects.select_for_update().get_or_create(
        account=account, service=address.service, name=address.name, defaults={"pinned": own}
    )
    if created:
        _learn_from_neighbours(node)
    if by_hand:
        node.by_hand = node.pinned = True
    if created or by_hand:
        node.save()
    return node


@transaction.atomic
def request_sync(nodes: QuerySet[PubsubNode]) -> int:
    """Have the workers synchronise `nodes` now, whatever the policy; return their number."""
    pks = list(nodes.values_list("pk", flat=True))
    return PubsubNode.objects.filter(pk__in=pks).update(
        sync_requested=clock.now(), bring_back=True, next_attempt=None, failures=0
    )


@transaction.atomic
def set_policy(nodes: QuerySet[PubsubNode], policy: str) -> int:
    """Set the policy of `nodes`; return their number.

    Nodes that are no longer to be synchronised are emptied, and their subscriptions given up.
    Raises `InvalidRequest` for an unknown policy.
    """
    if policy not in Policy.values:
        raise InvalidRequest(f"{policy!r} is not a policy.")
    chosen = list(nodes.select_for_update())
    for node in chosen:
        node.policy = policy
        _settle(node)
        node.save()
    return len(chosen)


def unfollow(node: PubsubNode) -> None:
    """Empty a node that the cache gives up, and have a worker end its subscription; the caller saves."""
    drop_items(node)
    node.partial = False
    node.sync_owner = ""
    if node.subscribed:
        PendingUnsubscription.objects.get_or_create(account_id=node.account_id, service=node.service, name=node.name)
        node.subscribed = False


@fenced
def remove_node(pk: int) -> None:
    """Forget a node that the service says does not exist (any more)."""
    PubsubNode.objects.filter(pk=pk).delete()


@fenced
def hide_node(pk: int, error: str) -> None:
    """Remove the items of a node that the account may no longer read, and say why."""
    for node in PubsubNode.objects.select_for_update().filter(pk=pk):
        hide(node, error)
        node.unavailable_count, node.unavailable_since = 0, None
        node.save()


def hide(node: PubsubNode, error: str) -> None:
    """Remove the items of `node`, and say why; the caller saves."""
    drop_items(node)
    set_state(node, SyncState.NO_SYNC if node.sync_state == SyncState.NO_SYNC else SyncState.ERROR, error)
    node.next_attempt = None
    node.subscribed = False
    node.partial = False
    node.checked_at = None
    node.sync_owner = ""


def is_unavailable(node: PubsubNode, condition: str) -> bool:
    """Count an answer `condition` of the service; return whether the account that has the node appears to be gone.

    Servers answer service-unavailable for an account that is deleted or has blocked us (RFC 6121, 8.5; XEP-0191). A
    service without a localpart is a component, which is merely down. Any other answer starts the count anew, "" is
    none. Whoever asks, the answers must span `UNAVAILABLE_PERIOD`. The caller saves.
    """
    if not condition:
        return False
    if condition != "service-unavailable" or "@" not in node.service:
        node.unavailable_count, node.unavailable_since = 0, None
        return False
    now = clock.now()
    if node.unavailable_since is None or node.unavailable_since > now:
        node.unavailable_since = now
    node.unavailable_count = min(node.unavailable_count + 1, MAX_NUMBER)
    lasted = (now - node.unavailable_since).total_seconds()
    return node.unavailable_count >= settings.UNAVAILABLE_ANSWERS and lasted >= settings.UNAVAILABLE_PERIOD


@fenced
def invalidate_node(pk: int) -> None:
    """Stop vouching for a node until it was compared with the service, by a synchronisation begun after this."""
    PubsubNode.objects.filter(pk=pk).invalidate()


@fenced
def invalidate_nodes(pks: Collection[int]) -> None:
    """Stop vouching for nodes until they were compared with their services."""
    PubsubNode.objects.filter(pk__in=list(pks)).invalidate()


@fenced
def set_subscribed(pk: int, subscribed: bool) -> None:
    """Keep whether the service sends us notifications of a node."""
    PubsubNode.objects.filter(pk=pk).update(subscribed=subscribed)


@fenced
def learn_publishers(pk: int, named: bool) -> None:
    """Keep whether the service's answers name the publishers of a node's items."""
    for node in PubsubNode.objects.select_for_update().filter(pk=pk):
        node.traits = replace(node.traits, publishers=named)
        node.save(update_fields=["extra"])


@fenced
def request_revalidation(pk: int) -> None:
    """Have a worker compare a node with the service soon."""
    PubsubNode.objects.unclaimed().filter(pk=pk, sync_requested__isnull=True).update(sync_requested=clock.now())


@transaction.atomic
def forget_nodes(nodes: QuerySet[PubsubNode], *, unsubscribe: bool) -> int:
    """Remove nodes and their items; with `unsubscribe` have workers end their subscriptions. Return their number."""
    chosen = list(nodes.only("pk", "account_id", "service", "name", "subscribed", "sync_owner"))
    if unsubscribe:
        PendingUnsubscription.objects.bulk_create(
            [
                PendingUnsubscription(account_id=node.account_id, service=node.service, name=node.name)
                for node in chosen
                if node.subscribed or node.sync_owner  # which subscribes first
            ],
            ignore_conflicts=True,
        )
    PubsubNode.objects.filter(pk__in=[node.pk for node in chosen]).delete()
    return len(chosen)


@fenced
def schedule_unsubscription(account_pk: int, address: NodeAddress) -> None:
    """Have a worker end a subscription that was made for a node which was given up meanwhile."""
    if Account.objects.select_for_update().filter(pk=account_pk).exists():
        PendingUnsubscription.objects.get_or_create(account_id=account_pk, service=address.service, name=address.name)


@fenced
def invalidate_all(account_jid: str, service: str | None = None) -> list[int]:
    """Stop vouching for all nodes of an account until they are compared with their services; return their keys.

    Args:
        account_jid: The bare JID of the account.
        service: Only the nodes of this service.
    """
    chosen = PubsubNode.objects.filter(account__jid=account_jid)
    if service is not None:
        chosen = chosen.filter(service=service)
    pks = list(chosen.order_by("pk").values_list("pk", flat=True))
    chosen.order_by().invalidate()
    return pks


def pending_unsubscriptions(account_pk: int, barred: Collection[str] = ()) -> list[tuple[int, NodeAddress]]:
    """Return subscriptions to be given up, of nodes that were not taken up again since.

    `barred`: domains whose services should not be asked now.
    """
    taken_up = PubsubNode.objects.filter(
        account=models.OuterRef("account"), service=models.OuterRef("service"), name=models.OuterRef("name")
    ).filter(models.Q(sync_state__isnull=True) | ~models.Q(sync_state=SyncState.NO_SYNC))
    pending = besides(PendingUnsubscription.objects.filter(~models.Exists(taken_up), account_id=account_pk), barred)
    return [(row.pk, NodeAddress(row.service, row.name)) for row in pending.order_by("pk")[:100]]


@fenced
def unsubscription_done(pk: int) -> None:
    """Keep that a subscription was given up."""
    PendingUnsubscription.objects.filter(pk=pk).delete()
