"""Tells open pages when something that they show has changed; it never says what.

A page watches topics, such as one node or all accounts. The version of a topic is a hash of a few columns that change
whenever shown data change. Each process reads the versions of all topics that its pages watch, once per second and in
one thread, however many pages there are. Nothing is written.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any
from weakref import WeakKeyDictionary

from django.db import connections
from django.db.models import Case, Count, Max, Model, QuerySet, Sum, Value, When

from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest
from pubsubcache.models import Account, Job, PubsubItem, PubsubNode, SyncRun
from pubsubcache.models.account import ALL_ACCOUNTS
from pubsubcache.models.timed import heartbeat_expired
from pubsubcache.states import counts, word_in_database
from pubsubcache.store import in_thread, own_thread
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

INTERVAL = 1.0  # seconds between two reads of the versions, at least
SHARE = 20  # the reads are idle for this many times as long as they take
HEARTBEAT = 10.0  # seconds after which a stream without changes sends a comment
DURATION = 30.0  # seconds after which a stream ends; the browser opens another, if the user is still permitted
RETRY = 1000  # milliseconds after which the browser opens another stream
# Not the heartbeat, which changes all the time.
ACCOUNT_SHOWN = (
    "pk", "jid", "host", "port", "tls_verify", "enabled", "owner_id", "status", "status_detail", "session_started",
    "worker", "leaving",
)  # fmt: skip
SHOWN_RUNS = 50  # of the newest sync runs
MAX_TOPICS = 20  # of one page
MAX_OBJECTS = 200  # of one topic


@dataclass(frozen=True, slots=True)
class Viewer:
    """What a user may see: everything if `owner` is None, or else the accounts of the user with this primary key.

    The method `visible_to` of querysets accepts it in place of a user.
    """

    owner: Any = None

    @classmethod
    def of(cls, user: Any) -> "Viewer":
        """Return what `user` may see."""
        return cls(None if user.has_perm(ALL_ACCOUNTS) else user.pk)

    @property
    def pk(self) -> Any:
        """The primary key of the user."""
        return self.owner

    def has_perm(self, permission: str) -> bool:
        """Whether the viewer has the permission to see all accounts."""
        return permission == ALL_ACCOUNTS and self.owner is None


@dataclass(frozen=True, slots=True)
class Topic:
    """Something to watch.

    Attributes:
        name: A name in `TOPICS`.
        pks: The primary keys of the objects, or () for all of them.
    """

    name: str
    pks: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ":".join(filter(None, (self.name, ",".join(map(str, self.pks)))))


@dataclass(frozen=True, slots=True)
class Kind:
    """How topics of a name are watched.

    Attributes:
        model: The model that users need the permission to view.
        version: Returns what changes whenever shown data change, as seen by a viewer. It runs each second.
        named_by: The model of the primary keys in a topic, if it is another one.
        needs_permission: False if users see only what is theirs.
    """

    model: type[Model]
    version: Callable[[Viewer, tuple[int, ...]], Any]
    named_by: type[Model] | None = None
    needs_permission: bool = True


def _accounts(viewer: Viewer, pks: tuple[int, ...]) -> Any:
    accounts = Account.objects.visible_to(viewer).order_by("pk")
    accounts = accounts.filter(pk__in=pks) if pks else accounts
    is_free = Case(When(heartbeat_expired("heartbeat", settings.LEASE_TIMEOUT), then=Value(True)), default=Value(False))
    rows = list(accounts.values_list(is_free, *ACCOUNT_SHOWN))
    return rows, counts(PubsubNode.objects.visible_to(viewer).filter(account__in=pks)) if pks else None


def _nodes(viewer: Viewer, pks: tuple[int, ...]) -> Any:
    visible = PubsubNode.objects.visible_to(viewer)
    if not pks:
        return counts(visible), visible.order_by().aggregate(Max("pk"))
    of_node = [field.attname for field in PubsubNode._meta.concrete_fields]
    of_account = ["account__status", "account__enabled", "account__leaving", "account__worker"]
    found = visible.filter(pk__in=pks).order_by("pk")
    return list(found.values_list(word_in_database(), *of_node, *of_account))


def _items(viewer: Viewer, pks: tuple[int, ...]) -> Any:
    """The counters of nodes, because items are too many, and the last change of an item for some nodes."""
    nodes = PubsubNode.objects.visible_to(viewer)
    if not pks:
        return nodes.order_by().aggregate(Count("pk"), Sum("item_count"), Sum("evicted_count"), Sum("revision"))
    counters = ("pk", "item_count", "evicted_count", "revision")
    rows = list(nodes.filter(pk__in=pks).order_by("pk").values_list(*counters))
    newest = [
        PubsubItem.objects.filter(node=pk).order_by("-updated", "-position").values_list("updated", "pk").first()
        for pk, *_ in rows
    ]
    return rows, newest


def _runs(viewer: Viewer, pks: tuple[int, ...]) -> Any:
    """The newest runs, of all nodes or of those with the primary keys `pks`."""
    runs = SyncRun.objects.visible_to(viewer)
    return _newest(runs.filter(node__in=pks) if pks else runs)


def _account_runs(viewer: Viewer, pks: tuple[int, ...]) -> Any:
    """The newest runs of accounts."""
    return _newest(SyncRun.objects.visible_to(viewer).filter(account__in=pks))


def _newest(runs: QuerySet[SyncRun]) -> list[Any]:
    return list(runs.order_by("-pk").values_list("pk", "outcome", "node__sync_done")[:SHOWN_RUNS])


def _jobs(viewer: Viewer, pks: tuple[int, ...]) -> Any:
    jobs = Job.objects.visible_to(viewer).order_by("-pk")
    jobs = jobs.filter(pk__in=pks) if pks else jobs
    return list(jobs.values_list("pk", "state", "done", "cancel_requested", "owner")[:MAX_OBJECTS])


#: The topics by name. Apps may add their own.
TOPICS: dict[str, Kind] = {
    "account": Kind(Account, _accounts),
    "accounts": Kind(Account, _accounts),
    "node": Kind(PubsubNode, _nodes),
    "nodes": Kind(PubsubNode, _nodes),
    "items": Kind(PubsubItem, _items, named_by=PubsubNode),
    "runs": Kind(PubsubNode, _runs),  # those who may view nodes may view their runs
    "account_runs": Kind(PubsubNode, _account_runs, named_by=Account),
    "job": Kind(Job, _jobs, needs_permission=False),
    "jobs": Kind(Job, _jobs, needs_permission=False),
}


def parse(texts: Collection[str]) -> list[Topic]:
    """Return the topics that a page watches.

    Args:
        texts: Topics such as "nodes" and "node:12,13".

    Raises:
        InvalidRequest: A topic is unknown or malformed, or there are none or too many.
    """
    if not 0 < len(texts) <= MAX_TOPICS:
        raise InvalidRequest(f"A page watches 1 to {MAX_TOPICS} topics.")
    topics = []
    for text in texts:
        name, colon, numbers = text.partition(":")
        listed = numbers.split(",") if colon else []
        are_numbers = all(number.isascii() and number.isdecimal() and len(number) < 19 for number in listed)
        if name not in TOPICS or not are_numbers or len(listed) > MAX_OBJECTS:
            raise InvalidRequest(f"{text[:100]!r} is not a topic.")
        topics.append(Topic(name, tuple(sorted(set(map(int, listed))))))
    return topics


def may_view(user: Any, name: str) -> bool:
    """Whether a user may view the model of the topics called `name`."""
    kind = TOPICS[name]
    label, model = kind.model._meta.app_label, kind.model._meta.model_name
    needed = [f"{label}.{action}_{model}" for action in ("view", "change")]
    return not kind.needs_permission or any(map(user.has_perm, needed))


def may_watch(user: Any, topic: Topic) -> bool:
    """Whether a user may see the objects of a topic: at least one of them, as others may be gone since."""
    if not may_view(user, topic.name):
        return False
    kind = TOPICS[topic.name]
    model: Any = kind.named_by or kind.model
    return not topic.pks or bool(model.objects.visible_to(user).filter(pk__in=topic.pks).exists())


@dataclass(frozen=True, slots=True)
class Watched:
    """A topic as a viewer sees it. Pages of viewers who see the same share it."""

    topic: Topic
    viewer: Viewer


def read_versions(watched: Collection[Watched]) -> dict[Watched, str]:
    """Return the versions of topics."""
    return {one: _hash(TOPICS[one.topic.name].version(one.viewer, one.topic.pks)) for one in watched}


def combined(versions: Mapping[Watched, str], watched: Collection[Watched]) -> str:
    """Return one version for several topics."""
    return _hash([versions[one] for one in watched])


def _hash(value: Any) -> str:
    return blake2b(repr(value).encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


@dataclass(eq=False, slots=True)
class Page:
    """An open page: what it watches, the version that it was told, and whether there is news."""

    watched: tuple[Watched, ...]
    told: str = ""
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    """The open pages of an event loop, and the task that reads versions for them while there are any."""

    def __init__(self) -> None:
        self._pages: set[Page] = set()
        self._versions: dict[Watched, str] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def is_stopped(self) -> bool:
        """Whether streams must end."""
        return self._stopped

    @property
    def is_reading(self) -> bool:
        """Whether the task that reads versions exists."""
        return self._task is not None

    def stop(self) -> None:
        """End all streams, and those that begin later, so that the server can shut down at once."""
        self._stopped = True
        self._wake.set()
        for page in self._pages:
            page.news.set()

    @contextmanager
    def watching(self, watched: Collection[Watched]) -> Iterator[Page]:
        """Tell a page about new versions inside the block."""
        page = Page(tuple(watched))
        self._pages.add(page)
        self._wake.set()
        if self._task is None and not self._stopped:
            # Without the context of the request, whose thread ends with it.
            self._task = asyncio.get_running_loop().create_task(self._read(), context=Context())
        try:
            yield page
        finally:
            self._pages.discard(page)
            self._wake.set()

    async def _read(self) -> None:
        """Read the versions each second, and those of new topics at once, until no page is open."""
        async with own_thread():
            try:
                await self._read_while_needed()
            finally:
                self._task = None
                self._versions.clear()

    async def _read_while_needed(self) -> None:
        due, works = 0.0, True
        while self._pages and not self._stopped:
            self._wake.clear()
            wanted = {one for page in self._pages for one in page.watched}
            began = time.monotonic()
            chosen = wanted if began >= due else wanted - self._versions.keys()
            try:
                versions = await in_thread(read_versions)(chosen) if chosen else {}
            except Exception as error:
                if works:
                    logger.warning("Live pages cannot be updated: %s", error)
                works = False
                await asyncio.sleep(INTERVAL)
                continue
            works = True
            if chosen is wanted:
                ended = time.monotonic()
                due = max(began + INTERVAL, ended + SHARE * (ended - began))
            self._versions = {one: version for one, version in (self._versions | versions).items() if one in wanted}
            self._tell()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(due - time.monotonic(), 0)):
                    await self._wake.wait()

    def _tell(self) -> None:
        for page in self._pages:
            if all(one in self._versions for one in page.watched):
                version = combined(self._versions, page.watched)
                if version != page.told:
                    page.told = version
                    page.news.set()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def of_loop() -> Hub:
    """Return the hub of the running loop."""
    return _of_loops.setdefault(asyncio.get_running_loop(), Hub())


async def stream(watched: Collection[Watched]) -> AsyncIterator[bytes]:
    """Yield server-sent events with the version of what a page watches: the first at once, then each new one."""
    # The request has its own thread, which lives as long as the stream and needs the database no more.
    await in_thread(connections.close_all)()
    hub = of_loop()
    end = time.monotonic() + DURATION
    yield f"retry: {RETRY}\n\n".encode()
    with hub.watching(watched) as page:
        while not hub.is_stopped and (left := end - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(HEARTBEAT, left)):
                    await page.news.wait()
            except TimeoutError:
                yield b":\n\n"
                continue
            page.news.clear()
            if not hub.is_stopped:
                yield f"event: version\ndata: {page.told}\n\n".encode()
