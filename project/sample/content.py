"""The nodes of the sample, which their owners publish over XMPP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from project.sample import payloads
from project.sample.prosody import Prosody
from project.sample.texts import ARTICLES, EVENTS, JOURNAL_LENGTH, STATUS_POSTS, TICKETS, Post, journal_entry
from pubsubcache.exceptions import ItemNotFound, ServiceError
from pubsubcache.types import NodeAddress
from pubsubcache.xmpp.session import Login, Session, open_session

BLOG = "urn:xmpp:microblog:0"
JOURNAL = "garden-journal"
CALENDAR = "urn:xmpp:calendar-events:0/garden"
REPAIRS = "fdp/submitted/org.salut-a-toi.tickets:0"
SPACE = "garden-space"
ROOMS = {"garden@rooms.example.org": "The garden", "hedges@rooms.example.org": "Friends of the hedge"}
READER = "alice"
GARDENER = "bob"
OPEN_NODE: dict[str, str | bool] = {
    "pubsub#access_model": "open",
    "pubsub#max_items": "max",
    "pubsub#persist_items": True,
}
PRIVATE_NODE: dict[str, str | bool] = {**OPEN_NODE, "pubsub#access_model": "whitelist"}


@dataclass(frozen=True)
class SampleNode:
    """A node of the sample.

    Attributes:
        owner: User who publishes it.
        address: Address of the node.
        items: Payloads by item id, oldest first.
        config: Configuration of the node.
        analysed: Whether an analyser keeps it in sync; otherwise the policy of the node does.
    """

    owner: str
    address: NodeAddress
    items: Mapping[str, Element]
    config: Mapping[str, str | bool] = field(default_factory=lambda: OPEN_NODE)
    analysed: bool = True


def login(prosody: Prosody, user: str) -> Login:
    """Return the login of a user."""
    return Login(
        jid=prosody.jid(user),
        password=prosody.users[user],
        host=prosody.host,
        port=prosody.port,
        ca_file=str(prosody.ca_file),
    )


def journal(prosody: Prosody) -> NodeAddress:
    """Return the address of the garden journal, which grows while the sample runs."""
    return NodeAddress(prosody.pubsub, JOURNAL)


def journal_payload(prosody: Prosody, post: Post) -> Element:
    """Build the payload of a journal entry."""
    return payloads.entry(post, GARDENER.title(), prosody.jid(GARDENER), journal(prosody), None)


def nodes(prosody: Prosody) -> list[SampleNode]:
    """Return all nodes of the sample."""
    entries = (journal_entry(number) for number in range(1, JOURNAL_LENGTH + 1))
    return [
        *_blog(prosody, "alice", ARTICLES),
        *_blog(prosody, "bob", STATUS_POSTS),
        SampleNode(GARDENER, journal(prosody), {post.id: journal_payload(prosody, post) for post in entries}),
        *_shared(prosody),
        *_personal(prosody),
    ]


def _shared(prosody: Prosody) -> list[SampleNode]:
    """Return the calendar of the garden, the list of repairs and the space with the chat rooms."""
    calendar, repairs = NodeAddress(prosody.pubsub, CALENDAR), NodeAddress(prosody.pubsub, REPAIRS)
    return [
        SampleNode(GARDENER, calendar, {event.id: payloads.event(event) for event in EVENTS}),
        SampleNode(
            GARDENER,
            repairs,
            {ticket.id: payloads.ticket(ticket, prosody.jid(ticket.author)) for ticket in TICKETS},
        ),
        SampleNode(
            GARDENER,
            NodeAddress(prosody.pubsub, SPACE),
            {room: payloads.bookmark(name) for room, name in ROOMS.items()},
        ),
    ]


def _blog(prosody: Prosody, owner: str, posts: tuple[Post, ...]) -> list[SampleNode]:
    """Return the blog of a user and the comments nodes of its posts."""
    address = NodeAddress(prosody.jid(owner), BLOG)
    items, replies = {}, []
    for post in posts:
        comments = NodeAddress(prosody.pubsub, f"{BLOG}:comments/{post.id}") if post.comments else None
        items[post.id] = payloads.entry(post, owner.title(), prosody.jid(owner), address, comments)
        if comments is not None:
            replies.append(SampleNode(GARDENER, comments, _comments(prosody, comments, post)))
    return [SampleNode(owner, address, items), *replies]


def _comments(prosody: Prosody, address: NodeAddress, post: Post) -> dict[str, Element]:
    items = {}
    for number, (author, text) in enumerate(post.comments, 1):
        comment = Post(f"comment-{number}", post.published, text, ())
        items[comment.id] = payloads.entry(comment, author.title(), prosody.jid(author), address, None)
    return items


def _personal(prosody: Prosody) -> list[SampleNode]:
    """Return the public PEP nodes of alice, and her private bookmarks."""
    jid = prosody.jid(READER)
    lasting = {
        "http://jabber.org/protocol/nick": payloads.nick(),
        "urn:xmpp:vcard4": payloads.profile("Alice of the Hedges", jid),
    }
    passing = {
        "http://jabber.org/protocol/mood": payloads.mood(),
        "http://jabber.org/protocol/tune": payloads.tune(),
        "http://jabber.org/protocol/geoloc": payloads.geoloc(),
    }
    bookmarks = {room: payloads.bookmark(name, "alice") for room, name in ROOMS.items()}
    return [
        *(
            SampleNode(READER, NodeAddress(jid, name), {"current": item}, analysed=name in lasting)
            for name, item in {**lasting, **passing}.items()
        ),
        SampleNode(READER, NodeAddress(jid, "urn:xmpp:bookmarks:1"), bookmarks, PRIVATE_NODE, analysed=False),
    ]


async def publish(prosody: Prosody) -> None:
    """Publish the missing items of the sample. Raises `PubsubCacheError`."""
    sample = nodes(prosody)
    for owner in sorted({node.owner for node in sample}):
        async with open_session(login(prosody, owner)) as session:
            for node in sample:
                if node.owner == owner:
                    await _publish_missing(session, node)


async def _publish_missing(session: Session, node: SampleNode) -> None:
    present = set(await _present_ids(session, node))
    for item_id, payload in node.items.items():
        if item_id not in present:
            await session.publish(node.address, payload, item_id)


async def _present_ids(session: Session, node: SampleNode) -> list[str]:
    """Return the ids of the items of a node; create the node if it does not exist."""
    try:
        return await session.get_item_ids(node.address)
    except ItemNotFound:
        pass
    try:
        await session.create_node(node.address, node.config)
    except ServiceError as error:
        if error.condition != "conflict":
            raise
    return []
