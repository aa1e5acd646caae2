"""Formats values for display: badges, shortened names, times and preformatted text. All input is escaped."""

import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pubsubcache import states
from pubsubcache.lookups.snippets import HIT_END, HIT_START, as_html
from pubsubcache.models import Account, PubsubNode
from pubsubcache.states import NodeState
from pubsubcache.utils import cleaning

MAX_SHOWN = 200_000  # characters of a text that are shown on a page
WHOLE = 24  # characters of a text that stays on one line, such as the JID of a service
_MARKS = (HIT_START, HIT_END)
_SPLIT = re.compile(f"([{HIT_START}{HIT_END}])")
EMPTY = "-"  # Django's placeholder for empty values
RUNNING = (states.Word.FIRST_SYNC, states.Word.REVALIDATING)

#: What to do about a session that failed, by its status.
ADVICE: dict[str, Any] = {
    Account.Status.AUTH_FAILED: gettext_lazy("Check the JID, and enter the password again."),
    Account.Status.ERROR: gettext_lazy(
        "Check the host. If the certificate comes from a private authority, choose its CA file. Otherwise the server "
        "needs a certificate that is valid for the domain of the JID."
    ),
    Account.Status.OFFLINE: gettext_lazy(
        "Check the domain of the JID, the host and the port, and whether the server is running."
    ),
}


def badge(kind: str, label: str, title: str = "") -> SafeString:
    """Return a coloured label.

    Args:
        kind: One of good, busy, warn, bad and quiet.
        label: The text.
        title: The tooltip.
    """
    return format_html('<span class="psc-badge psc-{}" title="{}">{}</span>', kind, cleaning.label(title, 1000), label)


def short(text: str, length: int = 60) -> str | SafeString:
    """Return remote text as one line of at most `length` characters, with more of it as tooltip.

    Bidirectional controls are visible, and the text direction is isolated. A text of at most `WHOLE` characters is not
    broken into lines.
    """
    if not (shown := cleaning.label(text, length).strip()):
        return EMPTY
    kind = "psc-whole" if len(shown) <= WHOLE else "psc-cut"
    return format_html('<bdi class="{}" title="{}">{}</bdi>', kind, cleaning.label(text, 1000), shown)


def stacked(first: str, second: str) -> SafeString:
    """Return two values, the second below the first and smaller. Both may be safe HTML."""
    return format_html('<div>{}</div><div class="psc-reason">{}</div>', first, second)


def snippet(text: str) -> SafeString:
    """Return a snippet with highlighted hits as HTML, in which bidirectional controls are visible."""
    pieces = (piece if piece in _MARKS else cleaning.label(piece, 1000) for piece in _SPLIT.split(text))
    text = "".join(pieces)
    return format_html('<bdi class="psc-snippet">{}</bdi>', as_html(text))


def preformatted(text: str) -> SafeString:
    """Return text as a preformatted block, with visible control characters."""
    return format_html('<pre class="psc-block" dir="ltr" tabindex="0">{}</pre>', cleaning.visible(text))


def cut(text: str) -> SafeString:
    """Return the beginning of a text as a preformatted block, with a notice if there is more."""
    shown = preformatted(text[:MAX_SHOWN])
    if len(text) <= MAX_SHOWN:
        return shown
    values = {"shown": number(MAX_SHOWN), "all": number(len(text))}
    notice = _("Only the first %(shown)s of %(all)s characters are shown.") % values
    return format_html('<p class="psc-notice">{}</p>{}', notice, shown)


def linked(url: str, text: str) -> SafeString:
    """Return a link with remote text, whose text direction is isolated."""
    return format_html('<a href="{}"><bdi>{}</bdi></a>', url, text)


def pretty_json(value: Any) -> str:
    """Return indented JSON without escapes, except for lone surrogates."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def number(value: int) -> str:
    """Return a localised number with thousand separators."""
    return number_format(value, use_l10n=True, force_grouping=True)


def moment(value: datetime | None) -> str:
    """Return a time in the format of the admin, with the current time zone."""
    return EMPTY if value is None else date_format(timezone.localtime(value), states.MOMENT)


def moment_of(model: type[Model], name: str) -> Any:
    """Return a read-only field for the admin that shows a time of a model in the format of the admin."""

    @admin.display(description=model._meta.get_field(name).verbose_name, ordering=name)  # type: ignore[union-attr]
    def shown(row: Any) -> str:
        return moment(getattr(row, name))

    shown.__name__ = name
    return shown


def labelled(name: str, value: str) -> SafeString:
    """Return a value with its name, which is visible only where the table has no head. Empty ones are hidden there."""
    if value == EMPTY:
        return format_html('<span class="psc-none">{}</span>', EMPTY)
    return format_html('<span class="psc-label">{}</span> {}', name, value)


def ago(value: datetime | None) -> str | SafeString:
    """Return how long ago a time was, with the time itself as tooltip."""
    if value is None:
        return EMPTY
    recent = timezone.now() - value < timedelta(minutes=1)
    since = _("just now") if recent else _("%(time)s ago") % {"time": timesince(value, depth=1)}
    return format_html('<span title="{}">{}</span>', moment(value), since)


def seconds(value: timedelta) -> str:
    """Return how long something took, such as "0.4 s", "12 s", "3 min 5 s" or "2 h 10 min"."""
    total = value.total_seconds()
    if total < 10:
        return _("%(seconds)s s") % {"seconds": number_format(total, decimal_pos=1)}
    minutes, rest = divmod(round(total), 60)
    if not minutes:
        return _("%(seconds)s s") % {"seconds": rest}
    hours, minutes = divmod(minutes, 60)
    if hours:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": rest}


def session_badge(account: Account) -> SafeString:
    """Return the state of the session of an account. The stored status is ignored if no live worker holds it."""
    status = Account.Status(account.status) if account.status in Account.Status.values else Account.Status.ERROR
    detail = account.status_detail[:300]
    if account.leaving:
        return badge("warn", _("being removed"), _("As soon as a worker has ended its subscriptions."))
    if account.is_online():
        return badge("good", str(status.label), detail)
    if status in (Account.Status.AUTH_FAILED, Account.Status.ERROR) and account.enabled:
        return badge("bad", str(status.label), detail)
    if not account.enabled:
        return badge("quiet", _("disabled"), detail)
    if not account.is_held():
        return badge("warn", _("no worker"), _("No running worker holds this account."))
    return badge("busy", str(status.label), detail)


def state_badges(found: Iterable[NodeState]) -> SafeString:
    """Return states of a node as badges, with their explanations as tooltips."""
    return format_html_join(" ", "{}", ((badge(one.kind, one.label, one.explanation[:300]),) for one in found))


def session_advice(account: Account) -> str:
    """Return what to do about the session of an account that should be online and is not, or ""."""
    if account.leaving or not account.enabled or account.is_online():
        return ""
    if account.status in (Account.Status.AUTH_FAILED, Account.Status.ERROR):
        return str(ADVICE[account.status])
    if not account.is_held():
        return _("Start a worker: manage.py pubsub_worker.")
    return str(ADVICE[Account.Status.OFFLINE]) if account.status_detail else ""


def progress(node: PubsubNode, state: NodeState) -> SafeString:
    """Return how far the running synchronisation of a node is, or "" if none is running."""
    return progress_bar(node) if state.word in RUNNING and node.sync_owner else SafeString("")


def progress_bar(node: PubsubNode) -> SafeString:
    """Return how far the synchronisation of a node is, as a bar and in words."""
    text = states.progress_text(node)
    # Services may report fewer items than they send.
    known = node.sync_total is not None and node.sync_total >= node.sync_done
    values = format_html(' max="{}" value="{}"', max(node.sync_total or 1, 1), node.sync_done) if known else ""
    return format_html(
        '<span class="psc-progress"><progress aria-label="{}"{}></progress> <span>{}</span></span>',
        _("Progress of the synchronisation"),
        values,
        text,
    )
