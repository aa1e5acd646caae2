"""Reads and writes nodes: their analysis, the decisions of staff, subscriptions and invalidation."""

from collections.abc import Collection
from dataclasses import replace
from functools import cache, partial

from django.db import models, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now, Substr

from pubsubcache.analysers import Analysis, registry
from pubsubcache.exceptions import InvalidRequest
from pubsubcache.models import (
    Account,
    AnalyserChoice,
    PendingUnsubscription,
    PubsubItem,
    PubsubNode,
    PubsubNodeQuerySet,
    SyncRun,
)
from pubsubcache.store import runs
from pubsubcache.store.batches import Batch, Report, Selection, each_node, run
from pubsubcache.store.choices import locked_choice
from pubsubcache.store.evicting import EVICTED_AT_ONCE, drop_evicted, drop_items, shrink
from pubsubcache.store.fairness import outside_domains, with_domain
from pubsubcache.store.leases import fenced
from pubsubcache.store.statements import Statement
from pubsubcache.types import MAX_NUMBER, NodeAddress, check_text
from pubsubcache.utils import clock, xmlform
from pubsubcache.utils.cleaning import one_line

# Service and name share a unique index, and an index row of PostgreSQL is limited to 2704 bytes.
MAX_ADDRESS_BYTES = 2500
# A PEP node is hidden after this many consecutive answers of service-unavailable over at least this many seconds.
UNAVAILABLE_ANSWERS = 5
UNAVAILABLE_PERIOD = 3600.0
SyncState = PubsubNode.SyncState
Policy = PubsubNode.Policy

NODE_COLUMNS = [field.attname for field in PubsubNode._meta.concrete_fields]
# Reads never need the password.
ACCOUNT_COLUMNS = [field.attname for field in Account._meta.concrete_fields if field.attname != "password"]
# Columns that an analysis sets.
ANALYSIS_COLUMNS = (
    "analyser", "type", "subtype", "to_sync", "by_analyser", "registry_fingerprint", "analysis_reason",
    "sample_namespace", "parse_anew", "sync_requested",
)  # fmt: skip
ITEM_START = 8_000  # characters of an item that contain its first payload's start tag
NO_ANALYSER = "No analyser matches."


def find_node(account_jid: str, address: NodeAddress) -> PubsubNode | None:
    """Return a node with its account and `as_of`, or None. Uses one query."""
    alias = PubsubNode.objects.db
    for row in _find_statement(alias).rows(account_jid, address.service, address.name):
        node = PubsubNode.from_db(alias, NODE_COLUMNS, row[: len(NODE_COLUMNS)])
        node.account = Account.from_db(alias, ACCOUNT_COLUMNS, row[len(NODE_COLUMNS) : -1])
        node.as_of = row[-1]
        return node
    return None


@cache
def _find_statement(alias: str) -> Statement:
    jid, service, name = placeholders = ("jid", "service", "name")
    found = PubsubNode.objects.using(alias).filter(account__jid=jid, service=service, name=name).order_by()
    columns = [*NODE_COLUMNS, *(f"account__{name}" for name in ACCOUNT_COLUMNS)]
    return Statement.of(found.values_list(*columns, Now()), placeholders)


def load_node(pk: int) -> PubsubNode | None:
    """Return a node with its account and `as_of`, or None."""
    found = PubsubNode.objects.select_related("account").defer("account__password").filter(pk=pk)
    return found.with_time().first()


def load_account(account_jid: str) -> Account | None:
    """Return an account with `as_of`, or None if there is none or it is being removed."""
    return Account.objects.filter(jid=account_jid, leaving=False).with_time().first()


def newest_namespaces(pk: int, count: int) -> dict[str, str | None]:
    """Return the namespaces of the payloads of a node's newest stored items by item id, oldest first."""
    newest = PubsubItem.objects.filter(node_id=pk).order_by("-position")
    starts = newest.values_list("name", Substr("data", 1, ITEM_START))[:count]
    return {item_id: xmlform.namespace_in(start) for item_id, start in reversed(starts)}


def domains_of(pks: Collection[int]) -> dict[int, str]:
    """Return the domains of nodes' services, by primary key of the node. Nodes that no longer exist are omitted."""
    return dict(with_domain(PubsubNode.objects.filter(pk__in=list(pks))).values_list("pk", "domain"))


def check_address(address: NodeAddress) -> None:
    """Check that a node with this address can be stored.

    Raises:
        InvalidRequest: The name is missing or is not valid text, or the address is too long.
    """
    if not address.name:
        raise InvalidRequest("The name of the node is missing.")
    check_text("The name of the node", address.name)
    if len(address.service.encode()) + len(address.name.encode()) > MAX_ADDRESS_BYTES:
        raise InvalidRequest(f"The address of the node is longer than {MAX_ADDRESS_BYTES} bytes.")


def wants_sync(node: PubsubNode) -> bool:
    """Whether a node should be synchronised, according to its policy, its analyser and users."""
    if node.policy == Policy.AUTO:
        return bool(node.to_sync or node.by_hand)
    return node.policy == Policy.ALWAYS


@fenced
def save_analysis(
    account_jid: str,
    address: NodeAddress,
    analysis: Analysis | None,
    error: str = "",
    namespace: str | None = None,
) -> PubsubNode:
    """Save the analysis of a node, creating the node if necessary, and set its sync state accordingly.

    Args:
        account_jid: The bare JID of the account.
        address: The service and name of the node.
        analysis: The result of the analysers, or None if none matches.
        error: Why the analysis failed, "" if it did not.
        namespace: The namespace that prevailed among the items, "" if none did, None if no item was looked at.

    Raises:
        Account.DoesNotExist: There is no such account, or it is being removed.
    """
    choice = _choice_for(analysis)
    node = get_or_create_node(account_jid, address)
    _set_analysis(node, analysis, error, choice, namespace)
    _update_state(node)
    node.save()
    return node


@fenced
def update_analysis(
    pk: int, analysis: Analysis | None, error: str = "", namespace: str | None = None
) -> PubsubNode | None:
    """Save a new analysis of a node.

    The sync state changes only if it must. The items of a node that is no longer to be synchronised are removed.

    Args:
        pk: The primary key of the node.
        analysis: The result of the analysers, or None if none matches.
        error: Why the analysis failed, "" if it did not.
        namespace: The namespace that prevailed among the items, "" if none did, None if no item was looked at.

    Returns:
        The node, or None if it was removed.
    """
    choice = _choice_for(analysis)
    node = PubsubNode.objects.select_related("account").for_update().filter(pk=pk).first()
    if node is None:
        return None
    before = wants_sync(node)
    _set_analysis(node, analysis, error, choice, namespace)
    if (before and not wants_sync(node)) or node.sync_state == SyncState.NO_SYNC:
        _update_state(node)
        node.save()
    else:
        node.save(update_fields=ANALYSIS_COLUMNS)
    return node


def _choice_for(analysis: Analysis | None) -> bool | None:
    return None if analysis is None else locked_choice(analysis.name).to_sync


def _set_analysis(
    node: PubsubNode, analysis: Analysis | None, error: str, choice: bool | None, namespace: str | None
) -> None:
    before = node.analyser
    node.analyser, node.type, node.subtype = "", "", ""
    if analysis is not None:
        node.analyser, node.type, node.subtype = analysis.name, analysis.type, analysis.subtype
    node.by_analyser = bool(analysis and analysis.to_sync)
    node.registry_fingerprint = "" if error else registry.fingerprint()  # "" repeats the analysis at the next read
    node.sample_namespace = namespace
    _set_to_sync(node, choice)
    if error:
        node.analysis_reason = error
    if node.analyser != before and node.item_count and wants_sync(node):
        node.parse_anew = True
        if not node.sync_owner:  # else the running synchronisation decides when it ends
            node.sync_requested = clock.now()


def conflicts_with_choice(node: PubsubNode, choice: bool | None) -> bool:
    """Whether `to_sync` of a node differs from the result of `choice`, the decision of staff on its analyser."""
    to_sync = bool(node.to_sync)
    by_analyser = to_sync if node.by_analyser is None else node.by_analyser
    return to_sync != (by_analyser if choice is None else choice)


def _set_to_sync(node: PubsubNode, choice: bool | None) -> None:
    """Set `to_sync` and the reason. The decision of staff on the analyser overrides that of the analyser."""
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


def choose_analyser(name: str, to_sync: bool | None, report: Report | None = None) -> tuple[AnalyserChoice, int]:
    """Save the decision of staff on the nodes of an analyser, and apply it in batches.

    Nodes with a policy other than auto keep their state. Nodes that are no longer synchronised lose their items, and
    workers end their subscriptions.

    Args:
        name: The name of the analyser.
        to_sync: Whether to synchronise its nodes; None leaves the decision to the analyser.
        report: Called with the number of rows done so far and the total.

    Returns:
        The decision, and the number of nodes that it changed.
    """
    choice = save_choice(name, to_sync)
    of_analyser = Selection({"analyser": name})
    counts = run(partial(choice_batch, name=name, nodes=of_analyser), report, of_analyser.size)
    return choice, counts["nodes"]


@transaction.atomic
def save_choice(name: str, to_sync: bool | None) -> AnalyserChoice:
    """Save the decision of staff on the nodes of an analyser. `choice_batch` applies it to those that exist."""
    choice = locked_choice(name)
    choice.to_sync = to_sync
    choice.save()
    return choice


def choice_batch(batch: Batch, name: str, nodes: Selection) -> None:
    """Apply the present decision of staff on an analyser to its nodes, as many as the batch may."""
    choice = locked_choice(name).to_sync

    def work(pk: int) -> bool:
        node = PubsubNode.objects.for_update().filter(pk=pk, analyser=name).first()
        if node is None or batch.cursor.get("emptied") == pk:
            return _drop_rest(node, batch)
        before = node.sync_state
        changes = _follow_choice(node, choice)
        if changes and not _empty(node, batch):
            return False
        if changes:
            _update_state(node, EVICTED_AT_ONCE)
        node.save()
        if (before == SyncState.NO_SYNC) != (node.sync_state == SyncState.NO_SYNC):
            batch.note(nodes=1)
        return "emptied" not in batch.cursor

    each_node(batch, nodes, work)


def emptied_by_choice(name: str, to_sync: bool | None) -> PubsubNodeQuerySet:
    """Return the nodes with items that `choose_analyser` would empty; see there for the arguments."""
    found = PubsubNode.objects.filter(analyser=name, policy=Policy.AUTO, by_hand=False, item_count__gt=0)
    if to_sync is None:
        return found.filter(to_sync=True, by_analyser=False)
    return found.none() if to_sync else found


def apply_choice(node: PubsubNode, choice: bool | None) -> None:
    """Apply the decision of staff on the analyser of a node. The caller saves the node."""
    if _follow_choice(node, choice):
        _update_state(node)


def _follow_choice(node: PubsubNode, choice: bool | None) -> bool:
    """Set `to_sync` as `_set_to_sync` does; return whether the sync state must follow."""
    before = wants_sync(node)
    _set_to_sync(node, choice)
    is_empty = node.sync_state == SyncState.NO_SYNC
    is_dropped = node.policy == Policy.AUTO and not wants_sync(node) and (choice is False or is_empty)
    return is_dropped or before != wants_sync(node)


def _empty(node: PubsubNode, batch: Batch) -> bool:
    """Prepare a node for `_update_state`: if it is no longer synchronised, evict all items but a few.

    Returns:
        Whether it is prepared. If not, the next batch continues.
    """
    if wants_sync(node):
        return True
    if not shrink(node, batch):
        return False
    if node.item_count:
        batch.spend(node.item_count)
        batch.note(items=node.item_count)
    batch.rows -= min(node.evicted_count, EVICTED_AT_ONCE)
    if node.evicted_count > EVICTED_AT_ONCE:
        batch.cursor["emptied"] = node.pk
    return True


def _drop_rest(node: PubsubNode | None, batch: Batch) -> bool:
    """Remove rows of evicted items that a node without items still has; return whether none are left."""
    is_empty = node is not None and node.sync_state == SyncState.NO_SYNC and not node.sync_owner
    if node is not None and is_empty and not drop_evicted(node, batch):
        return False
    batch.cursor.pop("emptied", None)
    return True


def _update_state(node: PubsubNode, evicted: int | None = None) -> None:
    """Set the sync state according to `wants_sync`. A node that is already synchronised keeps its state.

    Args:
        node: The node.
        evicted: The maximum number of rows of evicted items to remove, see `drop_items`.
    """
    if wants_sync(node):
        if node.sync_state == SyncState.NO_SYNC:
            set_state(node, None)
            node.next_attempt = None
    else:
        _drop_contents(node, evicted)
        reason = "Staff decided: never synchronise." if node.policy == Policy.NEVER else node.analysis_reason or ""
        set_state(node, SyncState.NO_SYNC, reason)
        node.checked_at = None


def set_state(node: PubsubNode, state: str | None, error: str = "") -> None:
    """Set the sync state of `node`, its time and the reason. The caller saves the node."""
    if node.sync_state != state:
        node.sync_state = state
        node.sync_state_updated = clock.now()
    node.sync_error = one_line(error)


def _copy_moves(node: PubsubNode) -> None:
    """Copy from another node of the service whether it moves edited items."""
    others = PubsubNode.objects.filter(account_id=node.account_id, service=node.service).exclude(pk=node.pk)
    for moves in others.filter(moves__isnull=False).values_list("moves", flat=True)[:1]:
        node.moves = moves


@fenced
def get_or_create_node(account_jid: str, address: NodeAddress, *, by_hand: bool = False) -> PubsubNode:
    """Return a node, creating it if necessary.

    Args:
        account_jid: The bare JID of the account.
        address: The service and name of the node.
        by_hand: Whether to pin the node and synchronise it whatever the analysers decide.

    Raises:
        Account.DoesNotExist: There is no such account, or it is being removed.
    """
    account = Account.objects.get(jid=account_jid, leaving=False)
    own = address.service == account.jid
    node, created = PubsubNode.objects.for_update().get_or_create(
        account=account, service=address.service, name=address.name, defaults={"pinned": own}
    )
    if created:
        _copy_moves(node)
    if by_hand:
        node.by_hand = node.pinned = True
    if created or by_hand:
        node.save()
    return node


@transaction.atomic
def request_sync(nodes: QuerySet[PubsubNode]) -> int:
    """Request that workers synchronise `nodes` now, whatever the policy; return the number of nodes."""
    pks = list(nodes.values_list("pk", flat=True))
    return PubsubNode.objects.filter(pk__in=pks).update(
        sync_requested=clock.now(), bring_back=True, next_attempt=None, failures=0
    )


def set_policy(nodes: QuerySet[PubsubNode], policy: str, report: Report | None = None) -> int:
    """Set the policy of `nodes` in batches; return their number.

    Nodes that are no longer synchronised lose their items, and workers end their subscriptions.

    Args:
        nodes: The nodes.
        policy: The policy.
        report: Called with the number of rows done so far and the total.

    Raises:
        InvalidRequest: The policy is unknown.
    """
    if policy not in Policy.values:
        raise InvalidRequest(f"{policy!r} is not a policy.")
    chosen = Selection(nodes.values_list("pk", flat=True))
    return run(partial(policy_batch, nodes=chosen, policy=policy), report, chosen.size)["nodes"]


def policy_batch(batch: Batch, nodes: Selection, policy: str) -> None:
    """Set the policy of nodes, as many as the batch may."""

    def work(pk: int) -> bool:
        node = PubsubNode.objects.for_update().filter(pk=pk).first()
        if node is None or batch.cursor.get("emptied") == pk:
            return _drop_rest(node, batch)
        node.policy = policy
        if not _empty(node, batch):
            return False
        _update_state(node, EVICTED_AT_ONCE)
        node.save()
        batch.note(nodes=1)
        return "emptied" not in batch.cursor

    each_node(batch, nodes, work)


def _drop_contents(node: PubsubNode, evicted: int | None = None) -> None:
    """Remove the items of a node and schedule the end of its subscription. The caller saves the node."""
    drop_items(node, evicted)
    node.partial = node.parse_anew = False
    if node.sync_owner:
        runs.end(node.pk, SyncRun.Outcome.ABANDONED)
    node.sync_owner = ""
    if node.subscribed:
        PendingUnsubscription.objects.get_or_create(account_id=node.account_id, service=node.service, name=node.name)
        node.subscribed = False


@fenced
def remove_node(pk: int) -> None:
    """Remove a node that no longer exists at the service."""
    PubsubNode.objects.filter(pk=pk).delete()


@fenced
def hide_node(pk: int, error: str, *, requests: int = 0) -> None:
    """Remove the items of a node that the account may no longer read, and record the error.

    Args:
        pk: The primary key of the node.
        error: How the service refused.
        requests: The number of requests that the sync run sent, if the service refused one of these.
    """
    for node in PubsubNode.objects.for_update().filter(pk=pk):
        hide(node, error, requests=requests)
        node.unavailable_count, node.unavailable_since = 0, None
        node.save()


def hide(node: PubsubNode, error: str, *, requests: int = 0) -> None:
    """Remove the items of `node`, record the error and end its sync run. The caller saves the node."""
    drop_items(node)
    set_state(node, SyncState.NO_SYNC if node.sync_state == SyncState.NO_SYNC else SyncState.ERROR, error)
    node.next_attempt = None
    node.subscribed = False
    node.partial = False
    node.checked_at = None
    if node.sync_owner:
        runs.end(node.pk, SyncRun.Outcome.REFUSED, error, requests=requests)
    node.sync_owner = ""


def count_unavailable(node: PubsubNode, condition: str) -> bool:
    """Count an answer of the service, and return whether the owner of the PEP node appears to be gone.

    Servers answer service-unavailable for an account that was deleted or has blocked ours (RFC 6121, 8.5; XEP-0191). A
    service without a localpart is a component, which may be down temporarily. The answers must span at least
    `UNAVAILABLE_PERIOD`. Any other answer resets the count. The caller saves the node.

    Args:
        node: The node.
        condition: The error condition of the answer, "" if there was no answer.
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
    return node.unavailable_count >= UNAVAILABLE_ANSWERS and lasted >= UNAVAILABLE_PERIOD


@fenced
def invalidate_node(pk: int) -> None:
    """Invalidate a node until a revalidation that starts after this call."""
    PubsubNode.objects.filter(pk=pk).invalidate()


@fenced
def invalidate_nodes(pks: Collection[int]) -> None:
    """Invalidate nodes until they are revalidated."""
    PubsubNode.objects.filter(pk__in=list(pks)).invalidate()


@fenced
def set_subscribed(pk: int, subscribed: bool) -> None:
    """Record whether the account is subscribed to a node."""
    PubsubNode.objects.filter(pk=pk).update(subscribed=subscribed)


@fenced
def record_publishers(pk: int, named: bool) -> None:
    """Record whether the service names the publishers of a node's items."""
    for node in PubsubNode.objects.for_update().filter(pk=pk):
        node.traits = replace(node.traits, publishers=named)
        node.save(update_fields=["extra"])


@fenced
def request_revalidation(pk: int) -> None:
    """Request that a worker revalidates a node soon."""
    PubsubNode.objects.unclaimed().filter(pk=pk, sync_requested__isnull=True).update(sync_requested=clock.now())


@transaction.atomic
def forget_nodes(nodes: QuerySet[PubsubNode], *, unsubscribe: bool) -> int:
    """Remove a few nodes and their items at once; return the number of nodes. `forget_batch` is for many.

    Args:
        nodes: The nodes.
        unsubscribe: Whether workers end the subscriptions.
    """
    chosen = list(nodes.only("pk", "account_id", "service", "name", "subscribed", "sync_owner"))
    if unsubscribe:
        PendingUnsubscription.objects.bulk_create(
            [
                PendingUnsubscription(account_id=node.account_id, service=node.service, name=node.name)
                for node in chosen
                if node.subscribed or node.sync_owner  # a sync subscribes first
            ],
            ignore_conflicts=True,
        )
    PubsubNode.objects.filter(pk__in=[node.pk for node in chosen]).delete()
    return len(chosen)


def forget_batch(batch: Batch, nodes: Selection, unsubscribe: bool) -> None:
    """Remove nodes and their items, as many as the batch may. `forget_nodes` removes each, after its items are evicted.

    Args:
        batch: The batch.
        nodes: The nodes.
        unsubscribe: Whether workers end the subscriptions.
    """

    def work(pk: int) -> bool:
        node = PubsubNode.objects.for_update().filter(pk=pk).first()
        if node is None:
            batch.cursor.pop("emptied", None)
            return True
        if batch.cursor.get("emptied") == pk:
            if not drop_evicted(node, batch):
                return False
            del batch.cursor["emptied"]
        elif not shrink(node, batch):
            return False
        elif node.evicted_count > EVICTED_AT_ONCE:
            _hide_before_removal(node, batch, unsubscribe)
            return False
        batch.rows -= node.evicted_count
        batch.spend(node.item_count)
        batch.counts["items"] += node.item_count
        batch.counts["nodes"] += forget_nodes(PubsubNode.objects.filter(pk=pk), unsubscribe=unsubscribe)
        return True

    each_node(batch, nodes, work)


def _hide_before_removal(node: PubsubNode, batch: Batch, unsubscribe: bool) -> None:
    """Make reads of a node go to the service while the rows of its evicted items are removed."""
    batch.cursor["emptied"] = node.pk
    batch.rows -= EVICTED_AT_ONCE
    batch.spend(node.item_count)
    batch.counts["items"] += node.item_count
    node.subscribed = unsubscribe and bool(node.subscribed or node.sync_owner)
    _drop_contents(node, EVICTED_AT_ONCE)
    set_state(node, SyncState.NO_SYNC, "It is being removed from the cache.")
    node.checked_at = None
    node.save()


@fenced
def schedule_unsubscription(account_pk: int, address: NodeAddress) -> None:
    """Schedule the end of a subscription to a node that was dropped while subscribing."""
    if Account.objects.select_for_update().filter(pk=account_pk).exists():
        PendingUnsubscription.objects.get_or_create(account_id=account_pk, service=address.service, name=address.name)


@fenced
def invalidate_all(account_jid: str, service: str | None = None) -> list[int]:
    """Invalidate all nodes of an account until they are revalidated; return their primary keys.

    Args:
        account_jid: The bare JID of the account.
        service: If given, invalidate only the nodes of this service.
    """
    chosen = PubsubNode.objects.filter(account__jid=account_jid)
    if service is not None:
        chosen = chosen.filter(service=service)
    pks = list(chosen.order_by("pk").values_list("pk", flat=True))
    chosen.order_by().invalidate()
    return pks


def pending_unsubscriptions(account_pk: int, excluded: Collection[str] = ()) -> list[tuple[int, NodeAddress]]:
    """Return the subscriptions to end, except those of nodes that are synchronised again.

    Args:
        account_pk: The primary key of the account.
        excluded: Domains whose services should not be contacted now.

    Returns:
        The primary key and the node of at most 100 subscriptions.
    """
    wanted_again = PubsubNode.objects.filter(
        account=models.OuterRef("account"), service=models.OuterRef("service"), name=models.OuterRef("name")
    ).filter(models.Q(sync_state__isnull=True) | ~models.Q(sync_state=SyncState.NO_SYNC))
    pending = outside_domains(
        PendingUnsubscription.objects.filter(~models.Exists(wanted_again), account_id=account_pk), excluded
    )
    return [(row.pk, NodeAddress(row.service, row.name)) for row in pending.order_by("pk")[:100]]


@fenced
def unsubscription_done(pk: int) -> None:
    """Remove a scheduled unsubscription that was carried out."""
    PendingUnsubscription.objects.filter(pk=pk).delete()
