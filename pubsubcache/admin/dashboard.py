"""The dashboard of the admin: what is wrong, first in one line, then in detail, and what the cache does.

`dashboard` and `summary` return the context of the templates. They show only what belongs to accounts that the user may
see, and only objects that the user may view. The number of queries does not depend on the number of rows.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.models import Case, Count, F, Model, OuterRef, Q, Subquery, Sum, Value, When
from django.db.models.functions import Left
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from pubsubcache import states
from pubsubcache.admin import display, jobs
from pubsubcache.admin.charts import Chart, Series
from pubsubcache.models import Account, Activity, PubsubItem, PubsubNode, SyncRun
from pubsubcache.models.account import ALL_ACCOUNTS
from pubsubcache.models.fields import EncryptedTextField, Undecryptable
from pubsubcache.states import Word
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import one_line

SHOWN = 6  # rows of a section
SHOWN_ACCOUNTS = 10
NAMED = 2  # accounts without a session that the headline names; it counts more of them
MAX_RUNS = 1000  # of failed runs to group
MAX_PARSE_ERRORS = 10_000  # to count
AMONG = 60  # newest items from which those of different nodes are chosen
LATE = timedelta(minutes=10)  # a node that waits for longer is part of a backlog
RECENT = timedelta(days=1)
OF_NODE = ("service", "name", "sync_done", "sync_total", "sync_owner", "sync_heartbeat")
HOURS = 24
Status = Account.Status
NODES = "admin:pubsubcache_pubsubnode_changelist"
NODE = "admin:pubsubcache_pubsubnode_change"
ACCOUNTS = "admin:pubsubcache_account_changelist"
ACCOUNT = "admin:pubsubcache_account_change"
ITEMS = "admin:pubsubcache_pubsubitem_changelist"
ITEM = "admin:pubsubcache_pubsubitem_change"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: how bad (bad or warn), in words, and the page that shows more."""

    kind: str
    text: str
    url: str


@dataclass(slots=True)
class Accounts:
    """The accounts that a user sees, and those of them that have no session although they should."""

    total: int = 0
    enabled: int = 0
    online: int = 0
    held: int = 0
    troubled: list[dict[str, Any]] = field(default_factory=list)
    workers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def online_shown(self) -> str:
        """The number of accounts with a session."""
        return display.number(self.online)

    @property
    def enabled_shown(self) -> str:
        """The number of accounts that should have a session."""
        return display.number(self.enabled)

    @property
    def first_troubled(self) -> list[dict[str, Any]]:
        """The accounts without a session that are listed."""
        return self.troubled[:SHOWN_ACCOUNTS]

    @property
    def more(self) -> str:
        """The number of those that are not listed, or ""."""
        rest = len(self.troubled) - SHOWN_ACCOUNTS
        return display.number(rest) if rest > 0 else ""


def dashboard(user: Any) -> dict[str, Any]:
    """Return the context of the dashboard."""
    shown = summary(user)
    now = shown["now"]
    if _may_view(user, PubsubNode):
        shown |= _runs(user, now)
    if _may_view(user, PubsubItem):
        shown["newest"] = _newest(user)
    if _may_view(user, Account):
        shown["charts"] = _charts(user, now)
    if user.has_perm(ALL_ACCOUNTS):
        shown["database"] = _database_size()
    shown["jobs"] = jobs.summary(user)
    return shown


def summary(user: Any) -> dict[str, Any]:
    """Return the context of the summary on the index page of the admin, a part of that of the dashboard."""
    shown: dict[str, Any] = {"problems": [], "works": False}
    accounts = nodes = None
    now = None
    if _may_view(user, Account):
        accounts, now = _accounts(user)
        shown["accounts"] = accounts
    shown["now"] = now = now or clock.now()
    if accounts is not None:
        shown["problems"] += _problems_of_accounts(accounts, user)
    if _may_view(user, PubsubNode):
        nodes = shown["nodes"] = _nodes(user, now)
        shown["problems"] += _problems_of_nodes(nodes)
    if _may_view(user, PubsubItem):
        shown["parse_errors"] = errors = _parse_errors(user)
        shown["problems"] += _problems_of_items(errors)
    shown["problems"].sort(key=lambda problem: problem.kind != "bad")  # stable
    if accounts is not None and nodes is not None:
        shown["works"] = bool(accounts.online) and not shown["problems"]
    return shown


def _may_view(user: Any, model: type[Model]) -> bool:
    options = model._meta
    return any(user.has_perm(f"{options.app_label}.{right}_{options.model_name}") for right in ("view", "change"))


# Accounts and workers


def _accounts(user: Any) -> tuple[Accounts, datetime | None]:
    """Return the accounts, and the time of reading by the database's clock, None if there are none."""
    # Decrypts the passwords only where the server refuses them.
    refused = Case(
        When(status__in=[Status.AUTH_FAILED, Status.ERROR], then=F("password")),
        default=Value(""),
        output_field=EncryptedTextField(),
    )
    columns = ("jid", "status", "status_detail", "heartbeat", "worker", "enabled", "leaving")
    rows = list(Account.objects.visible_to(user).only(*columns).annotate(secret=refused).with_time())
    enabled = [account for account in rows if account.enabled or account.leaving]
    found = Accounts(
        total=len(rows),
        enabled=len(enabled),
        online=sum(account.is_online() for account in enabled),
        held=sum(account.is_held() for account in enabled),
        troubled=[_trouble(account) for account in enabled if not account.is_online()],
        workers=_workers(rows),
    )
    found.troubled.sort(key=lambda row: (row["kind"] != "bad", row["jid"]))
    return found, rows[0].as_of if rows else None


def _trouble(account: Account) -> dict[str, Any]:
    """Return why an account has no session: in one or two words and in a sentence."""
    kind, label, reason = _obstacle(account)
    return {
        "kind": kind,
        "jid": one_line(account.jid, 200),
        "label": label,
        "badge": display.badge(kind, label),
        "reason": reason,
        "url": reverse(ACCOUNT, args=[account.pk]),
    }


def _obstacle(account: Account) -> tuple[str, str, str]:
    advice = display.session_advice(account)
    detail = one_line(account.status_detail, 300)
    if detail and not detail.endswith((".", "…")):
        detail += "."
    if account.leaving:
        return "busy", _("being removed"), _("It is removed as soon as a worker has ended its subscriptions.")
    if isinstance(getattr(account, "secret", ""), Undecryptable):
        text = _("The stored password was encrypted with another key. Enter it again.")
        return "bad", _("password unreadable"), text
    if account.status in (Status.AUTH_FAILED, Status.ERROR):
        return "bad", str(Status(account.status).label), f"{detail} {advice}"
    if not account.is_held():
        return "bad", _("no worker"), f"{_('No running worker holds this account.')} {advice}"
    if account.status == Status.CONNECTING:
        return "busy", _("connecting"), detail or _("A worker is logging in.")
    return "bad", _("offline"), f"{detail} {advice}".strip() or _("The worker has no connection and tries again.")


def _workers(accounts: Iterable[Account]) -> list[dict[str, Any]]:
    """Return the workers that hold accounts, or held them when they died."""
    by_worker = sorted((account for account in accounts if account.worker), key=lambda account: account.worker)
    found = []
    for name, group in groupby(by_worker, key=lambda account: account.worker):
        held = sorted(group, key=lambda account: account.jid)
        latest = max((account.heartbeat for account in held if account.heartbeat), default=None)
        alive = any(account.is_held() for account in held)
        found.append({
            "name": name,
            "alive": alive,
            "badge": display.badge("good", _("alive")) if alive else display.badge("bad", _("dead")),
            "heartbeat": display.ago(latest),
            "accounts": [(account.jid, reverse(ACCOUNT, args=[account.pk])) for account in held[:SHOWN]],
            "more": len(held) - SHOWN if len(held) > SHOWN else 0,
            "url": reverse(ACCOUNTS, query={"q": name}),
        })  # fmt: skip
    return sorted(found, key=lambda row: row["alive"])


def _problems_of_accounts(accounts: Accounts, user: Any) -> list[Problem]:
    url = reverse(ACCOUNTS)
    if not accounts.total:
        text = _("There are no accounts yet") if user.has_perm(ALL_ACCOUNTS) else _("You own no account")
        return [Problem("warn", text, url)]
    if not accounts.enabled:
        return [Problem("warn", _("No account is enabled"), url)]
    if not accounts.held:
        text = ngettext(
            "No worker is running, so %(count)s account has no session",
            "No worker is running, so %(count)s accounts have no session",
            accounts.enabled,
        )
        return [Problem("bad", text % {"count": display.number(accounts.enabled)}, url)]
    troubled = accounts.troubled
    if len(troubled) <= NAMED:
        return [
            Problem("bad" if row["kind"] == "bad" else "warn", f"{row['jid']}: {row['label']}", row["url"])
            for row in troubled
        ]
    found = []
    if bad := sum(row["kind"] == "bad" for row in troubled):
        text = ngettext("%(count)s account has no session", "%(count)s accounts have no session", bad)
        found.append(Problem("bad", text % {"count": display.number(bad)}, url))
    if busy := len(troubled) - bad:
        text = ngettext(
            "%(count)s account is being connected or removed",
            "%(count)s accounts are being connected or removed",
            busy,
        )
        found.append(Problem("warn", text % {"count": display.number(busy)}, url))
    return found


# Nodes


def _nodes(user: Any, now: datetime) -> dict[str, Any]:
    """Return the numbers of nodes by freshness, of items, and of nodes that wait for too long."""
    late = now - LATE
    requested = Q(sync_requested__lt=late)
    never = Q(sync_state__isnull=True, sync_state_updated__lt=late) & Q(next_attempt__isnull=True)
    outdated = (
        Q(sync_state=PubsubNode.SyncState.COMPLETED, failures=0, account__session_started__lt=late)
        & ~Q(checked_token=F("account__fencing_token"))
    )  # fmt: skip
    nodes = PubsubNode.objects.visible_to(user).order_by()
    rows = (
        nodes.annotate(word=states.word_in_database(now))
        .values("word")
        .annotate(
            number=Count("pk"),
            size=Sum("item_count"),
            late=Count("pk", filter=Q(sync_owner="") & (requested | never | outdated)),
        )
    )
    by_word = {row["word"]: row for row in rows}
    words = [
        {
            "word": word,
            "kind": states.KINDS[word],
            "label": word.label,
            "number": by_word[word]["number"],
            "shown": display.number(by_word[word]["number"]),
            "url": reverse(NODES, query={"state": word.value}),
        }
        for word in Word
        if word in by_word
    ]
    numbers = Counter({row["word"]: row["number"] for row in words})
    size = sum(row["size"] or 0 for row in by_word.values())
    return {
        "words": words,
        "numbers": numbers,
        "late": sum(row["late"] for row in by_word.values()),
        "total": numbers.total(),
        "total_shown": display.number(numbers.total()),
        "items": size,
        "items_shown": display.number(size),
        "waiting": display.number(numbers[Word.WAITING]),
    }


def _problems_of_nodes(nodes: dict[str, Any]) -> list[Problem]:
    numbers = nodes["numbers"]
    failing = ngettext("%(count)s node fails", "%(count)s nodes fail", numbers[Word.FAILING])
    late = ngettext(
        "%(count)s node has waited for a synchronisation for over 10 minutes",
        "%(count)s nodes have waited for a synchronisation for over 10 minutes",
        nodes["late"],
    )
    refused = ngettext(
        "A service refuses access to %(count)s node",
        "Services refuse access to %(count)s nodes",
        numbers[Word.REFUSED],
    )
    candidates = [
        ("bad", failing, numbers[Word.FAILING], Word.FAILING),
        ("warn", late, nodes["late"], Word.WAITING),
        ("warn", refused, numbers[Word.REFUSED], Word.REFUSED),
    ]
    return [
        Problem(kind, text % {"count": display.number(count)}, reverse(NODES, query={"state": word.value}))
        for kind, text, count, word in candidates
        if count
    ]


# Synchronisations


def _runs(user: Any, now: datetime) -> dict[str, Any]:
    """Return the running synchronisations, and the failures of the last day by cause."""
    outcome, since = SyncRun.Outcome, now - RECENT
    # Each alternative is a range of the index on the outcome and the start.
    running = Q(outcome=outcome.RUNNING)
    chosen = running | Q(outcome=outcome.FAILED, started__gte=since) | Q(outcome=outcome.REFUSED, started__gte=since)
    newest = SyncRun.objects.visible_to(user).filter(chosen).order_by(Case(When(running, then=0), default=1), "-pk")
    rows = list(
        SyncRun.objects.filter(pk__in=newest.values("pk")[:MAX_RUNS])
        .order_by("-pk")
        .values("node_id", "outcome", "reason", "started", "error", *(f"node__{column}" for column in OF_NODE))
    )
    at_work, failures = [], []
    for row in rows:
        if row["outcome"] != outcome.RUNNING:
            failures.append(row)
            continue
        node = PubsubNode(pk=row["node_id"], **{column: row[f"node__{column}"] for column in OF_NODE})
        if node.is_claimed(now):
            at_work.append(_progress(node, row))
    total = display.number(len(failures))
    return {
        "running": at_work[:SHOWN],
        "running_total": display.number(len(at_work)),
        "failures": causes(failures)[:SHOWN],
        "failures_total": _("at least %(count)s") % {"count": total} if len(rows) == MAX_RUNS else total,
    }


def _progress(node: PubsubNode, run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": display.short(one_line(node.name, 500), 60),
        "service": display.short(node.service, 50),
        "url": reverse(NODE, args=[node.pk]),
        "why": SyncRun.Reason(run["reason"]).label if run["reason"] in SyncRun.Reason.values else run["reason"],
        "since": display.ago(run["started"]),
        "bar": display.progress_bar(node),
    }


def causes(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return failed runs grouped by their cause, the most frequent first. The runs are given newest first."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(cause(run["error"]), []).append(run)
    return [
        {
            "cause": text,
            "runs": display.number(len(group)),
            "nodes": display.number(len({run["node_id"] for run in group})),
            "latest": display.ago(group[0]["started"]),
            "example": display.short(one_line(group[0]["node__name"], 500), 60),
            "url": reverse(NODE, args=[group[0]["node_id"]]),
        }
        for text, group in sorted(groups.items(), key=lambda pair: -len(pair[1]))
    ]


_VARIABLE = re.compile(
    r"""[^\s"'<>()@]+@[^\s"'<>()]+             # an address
    |"[^"]*"|'[^']*'                          # a name
    |\b(?=[a-f-]{0,40}[0-9])[0-9a-f-]{12,}\b  # an id
    |[0-9]+""",
    re.VERBOSE | re.IGNORECASE,
)


def cause(error: str) -> str:
    """Return the text of an error without what differs between nodes: addresses, quoted names, ids and numbers."""
    text = _VARIABLE.sub("…", one_line(error, 400))
    return text if text.strip() else _("no reason given")


# Items


def _parse_errors(user: Any) -> dict[str, Any]:
    """Return the numbers of items that could not be parsed, by analyser. An index has only these items."""
    failed = PubsubItem.objects.unparsed().order_by()
    if not user.has_perm(ALL_ACCOUNTS):  # by node, or else the items of all others are read too
        failed = failed.filter(node__in=PubsubNode.objects.visible_to(user).order_by().values("pk"))
    names = list(failed.values_list("node__analyser", flat=True)[: MAX_PARSE_ERRORS + 1])
    numbers = Counter(names[:MAX_PARSE_ERRORS])
    rows = [
        {
            "name": name or _("no analyser"),
            "number": display.number(number),
            "url": reverse(ITEMS, query={"parse_error": "yes", "node__analyser": name}),
        }
        for name, number in numbers.most_common(SHOWN)
    ]
    return {"rows": rows, "total": len(names), "is_cut": len(names) > MAX_PARSE_ERRORS}


def _problems_of_items(errors: dict[str, Any]) -> list[Problem]:
    if not (total := errors["total"]):
        return []
    if errors["is_cut"]:
        text = _("More than %(count)s items could not be parsed") % {"count": display.number(MAX_PARSE_ERRORS)}
    else:
        text = ngettext("%(count)s item could not be parsed", "%(count)s items could not be parsed", total)
        text %= {"count": display.number(total)}
    return [Problem("warn", text, reverse(ITEMS, query={"parse_error": "yes"}))]


def _newest(user: Any) -> list[dict[str, Any]]:
    """Return the newest items, those of different nodes first, as a busy node would hide all others."""
    items = PubsubItem.objects.select_related("node").order_by("-pk")
    if not user.has_perm(ALL_ACCOUNTS):  # their newest items could be anywhere in the table
        of_node = PubsubItem.objects.filter(node=OuterRef("pk")).order_by("-created", "-position").values("pk")[:1]
        nodes = PubsubNode.objects.visible_to(user).filter(item_count__gt=0).annotate(newest=Subquery(of_node))
        newest = nodes.order_by(F("newest").desc(nulls_last=True)).values("newest")
        items = items.filter(pk__in=newest[:SHOWN])
    columns = ("name", "created", "node__service", "node__name")
    texts = {"title": Left("parsed_title", 200), "beginning": Left("text", 120)}
    found = list(items.only(*columns).annotate(**texts)[:AMONG])
    firsts = {item.node_id: item for item in reversed(found)}.values()
    chosen = sorted(firsts, key=lambda item: -item.pk)[:SHOWN]
    chosen += [item for item in found if item not in chosen][: SHOWN - len(chosen)]
    return [
        {
            "title": _heading(item),
            "node": display.short(one_line(item.node.name, 500), 50),
            "service": display.short(item.node.service, 50),
            "created": display.ago(item.created),
            "url": reverse(ITEM, args=[item.pk]),
        }
        for item in sorted(chosen, key=lambda item: -item.pk)
    ]


def _heading(item: PubsubItem) -> str | SafeString:
    """Return the title of an item, or else the beginning of its text or its id."""
    title = one_line(getattr(item, "title", None) or "", 200).strip()
    return display.short(title or one_line(getattr(item, "beginning", "") or item.name, 200), 80)


# Activity and size


def _charts(user: Any, now: datetime) -> list[Chart]:
    hours = Activity.objects.visible_to(user).per_hour(HOURS, now)
    times = [row["hour"] for row in hours]

    def series(name: str, label: str) -> Series:
        return Series(name, label, [row[name] for row in hours])

    return [
        Chart(
            "psc-chart-items",
            _("Received in the last day"),
            times,
            [series("notifications", _("notifications")), series("stored", _("items stored"))],
            is_stacked=False,
        ),
        Chart(
            "psc-chart-answers",
            _("Answers in the last day"),
            times,
            [series("hits", _("hits")), series("stale", pgettext("answers", "stale")), series("misses", _("misses"))],
            is_stacked=True,
        ),
    ]


def _database_size() -> dict[str, Any]:
    """Return the size of the database, and of the tables of the app where the database knows it."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_database_size(current_database()), sum(pg_total_relation_size(oid)) FROM pg_class"
                " WHERE relkind = 'r' AND starts_with(relname, 'pubsubcache_') AND pg_table_is_visible(oid)"
            )
            whole, own = cursor.fetchone()
        return {"whole": whole, "own": int(own or 0)}
    name = str(connection.settings_dict["NAME"])
    files = [Path(name), Path(f"{name}-wal")]
    whole, log = (path.stat().st_size if path.is_file() else 0 for path in files)
    return {"whole": whole + log, "log": log}
