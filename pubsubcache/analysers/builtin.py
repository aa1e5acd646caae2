"""The built-in analysers. docs/analysers.md explains which of them keep nodes in sync, and why.

Analysers that match by node name come first, because they need no request for a sample item. The blog follows, then the
analysers that recognise payloads in nodes of any name.
"""

from pubsubcache.analysers.base import Analyser, Analysis
from pubsubcache.analysers.registry import register_analyser
from pubsubcache.parsers import (
    activity,
    attachments,
    avatar,
    bookmarks,
    calendar_events,
    dataform,
    displayed,
    encrypted,
    file_sharing,
    geoloc,
    links,
    microblog,
    mix,
    mood,
    moved,
    nickname,
    omemo,
    openpgp,
    popular_reactions,
    private_bookmarks,
    serverinfo,
    spaces,
    stickers,
    subscriptions,
    tickets,
    tune,
    vcard4,
)
from pubsubcache.parsers.html import ATOM

#: Reasons that several analysers share.
TEMPLATES = "admin/pubsubcache/items"
CONTENT = "Content that people read and search."
PERSON = "One small item, read wherever a person is shown."
PROFILE = "Public profiles are read often and seldom change."
PRIVATE = "Private. Only clients of the owner read it, once per session."
MOMENT = "Personal, and soon outdated."
KEYS = "Whoever encrypts needs the current devices and keys."


def mark_comments(analysis: Analysis) -> None:
    """Distinguish comments nodes (XEP-0277, 3) from blogs."""
    if microblog.is_comments_node(analysis.node):
        analysis.subtype = "comment"


def mark_invitees(analysis: Analysis) -> None:
    """Distinguish lists of invitees (XEP-0471) from calendars."""
    if calendar_events.is_invitees_node(analysis.node):
        analysis.subtype = "invitees"


def mark_forms(analysis: Analysis) -> None:
    """Distinguish form templates from submitted forms (XEP-0346, 2.1)."""
    if analysis.node.startswith(dataform.TEMPLATES):
        analysis.subtype = "template"
    elif analysis.node.startswith(dataform.SUBMITTED):
        analysis.subtype = "submitted"


def mark_avatars(analysis: Analysis) -> None:
    """Distinguish avatar data from metadata (XEP-0084)."""
    analysis.subtype = "data" if analysis.node.startswith(avatar.DATA) else "metadata"


def mark_omemo(analysis: Analysis) -> None:
    """Distinguish key bundles from device lists (XEP-0384)."""
    analysis.subtype = "bundles" if omemo.is_bundles_node(analysis.node) else "devices"


def mark_openpgp(analysis: Analysis) -> None:
    """Distinguish keys from lists of keys (XEP-0373)."""
    analysis.subtype = "keys" if analysis.node == openpgp.KEYS_NODE else "key"


def mark_uploads(analysis: Analysis) -> None:
    """Distinguish a user's uploads from the files that the user shares (XEP-0498, 8)."""
    if analysis.node == file_sharing.UPLOADS:
        analysis.subtype = "uploaded"
        analysis.to_sync = False


def mark_subscriptions(analysis: Analysis) -> None:
    """Distinguish the subscribers of a node from the subscriptions of a user (XEP-0465)."""
    if subscriptions.is_subscribers_node(analysis.node):
        analysis.subtype = "subscribers"


def builtin_analysers() -> list[Analyser]:
    """Create all built-in analysers, in order."""
    return [*_by_name(), *_by_payload()]


def _by_name() -> list[Analyser]:
    return [
        Analyser(
            name="attachments-summary",
            type="attachments-summary",
            node="urn:xmpp:pubsub-attachments:summary:",
            to_sync=True,
            parser=attachments.parse_summary,
            why="Public, and read with every list of posts.",
        ),
        Analyser(
            name="attachments",
            type="attachments",
            node="urn:xmpp:pubsub-attachments:",
            to_sync=True,
            parser=attachments.parse_attachments,
            why="Public, and shown together with a post, like its comments.",
        ),
        Analyser(
            name="tickets",
            type="ticket",
            node="fdp/submitted/org.salut-a-toi.tickets:",
            to_sync=True,
            parser=tickets.parse_ticket,
            why=CONTENT,
            template=f"{TEMPLATES}/ticket.html",
        ),
        Analyser(
            name="bookmarks",
            type="bookmark",
            node="urn:xmpp:bookmarks:",
            parser=bookmarks.parse_bookmark,
            why=PRIVATE,
            template=f"{TEMPLATES}/bookmark.html",
        ),
        Analyser(
            name="private-bookmarks",
            type="bookmarks",
            node=private_bookmarks.STORAGE,
            parser=private_bookmarks.parse_private_bookmarks,
            why=PRIVATE,
        ),
        Analyser(
            name="displayed",
            type="displayed",
            node=displayed.DISPLAYED,
            parser=displayed.parse_displayed,
            why="Private, and it changes with every message that the owner reads.",
        ),
        Analyser(
            name="avatar-metadata",
            type="avatar",
            node=avatar.METADATA,
            to_sync=True,
            parser=avatar.parse_metadata,
            match_cb=mark_avatars,
            why=PERSON,
            template=f"{TEMPLATES}/avatar.html",
        ),
        Analyser(
            name="avatar-data",
            type="avatar",
            node=avatar.DATA,
            parser=avatar.parse_data,
            match_cb=mark_avatars,
            why="Large. A picture never changes under its id, so a file is a better place for it than a database.",
            template=f"{TEMPLATES}/avatar.html",
        ),
        Analyser(
            name="movim-banner",
            type="banner",
            node="urn:xmpp:movim-banner:",
            to_sync=True,
            parser=avatar.parse_metadata,
            why=PERSON,
            template=f"{TEMPLATES}/avatar.html",
        ),
        Analyser(
            name="nickname",
            type="nickname",
            node=nickname.NICK,
            to_sync=True,
            parser=nickname.parse_nickname,
            why=PERSON,
        ),
        Analyser(
            name="vcard4",
            type="profile",
            node="urn:xmpp:vcard4",
            to_sync=True,
            parser=vcard4.parse_vcard,
            why=PROFILE,
            template=f"{TEMPLATES}/profile.html",
        ),
        Analyser(
            name="vcard4-namespace",
            type="profile",
            node=vcard4.VCARD,
            to_sync=True,
            parser=vcard4.parse_vcard,
            why=PROFILE,
            template=f"{TEMPLATES}/profile.html",
        ),
        Analyser(
            name="contacts",
            type="profile",
            node="urn:xmpp:contacts",
            parser=vcard4.parse_vcard,
            why="A private address book, which only clients of the owner read.",
            template=f"{TEMPLATES}/profile.html",
        ),
        Analyser(
            name="moved",
            type="moved",
            node=moved.MOVED,
            parser=moved.parse_moved,
            why="Clients must check it with the service before they trust it.",
        ),
        Analyser(
            name="mood",
            type="mood",
            node=mood.MOOD,
            parser=mood.parse_mood,
            why=MOMENT,
            template=f"{TEMPLATES}/mood.html",
        ),
        Analyser(
            name="activity",
            type="activity",
            node=activity.ACTIVITY,
            parser=activity.parse_activity,
            why=MOMENT,
            template=f"{TEMPLATES}/mood.html",
        ),
        Analyser(
            name="tune",
            type="tune",
            node=tune.TUNE,
            parser=tune.parse_tune,
            why="Personal, and it changes with every song.",
            template=f"{TEMPLATES}/tune.html",
        ),
        Analyser(
            name="geoloc",
            type="geoloc",
            node=geoloc.GEOLOC,
            parser=geoloc.parse_geoloc,
            why="Locations of people are sensitive, and change all the time.",
            template=f"{TEMPLATES}/place.html",
        ),
        Analyser(
            name="popular-reactions",
            type="reactions",
            node=popular_reactions.POPULAR_REACTIONS,
            parser=popular_reactions.parse_popular_reactions,
            why=PRIVATE,
        ),
        Analyser(
            name="omemo",
            type="omemo",
            node="urn:xmpp:omemo:",
            parser=omemo.parse,
            match_cb=mark_omemo,
            why=KEYS,
            template=f"{TEMPLATES}/devices.html",
        ),
        Analyser(
            name="omemo-legacy",
            type="omemo",
            node=omemo.LEGACY,
            parser=omemo.parse,
            match_cb=mark_omemo,
            why=KEYS,
            template=f"{TEMPLATES}/devices.html",
        ),
        Analyser(
            name="openpgp",
            type="openpgp",
            node=f"{encrypted.OPENPGP}:",
            parser=openpgp.parse,
            match_cb=mark_openpgp,
            why="Whoever encrypts needs the current keys, and backups of secret keys must not be copied.",
        ),
        Analyser(
            name="public-subscriptions",
            type="subscription",
            node="urn:xmpp:pps:",
            to_sync=True,
            parser=subscriptions.parse_subscription,
            match_cb=mark_subscriptions,
            why="Public, and meant for discovery. The service maintains it.",
        ),
        Analyser(
            name="subscriptions",
            type="subscription",
            node="urn:xmpp:pubsub:subscription",
            to_sync=True,
            parser=subscriptions.parse_subscription,
            why="Public, and meant for discovery.",
        ),
        Analyser(
            name="file-sharing",
            type="file",
            node=file_sharing.ROOT,
            to_sync=True,
            parser=file_sharing.parse_shared_file,
            match_cb=mark_uploads,
            why="Lists of files that people browse and search. What a user uploads privately is not cached.",
        ),
        *(
            Analyser(
                name=name,
                type="subscription",
                node=node,
                parser=subscriptions.parse_subscription,
                why="A private list, which only clients of the owner read.",
            )
            for name, node in (
                ("movim-subscriptions", "urn:xmpp:pubsub:movim-public-subscription"),
                ("movim-spaces", "{https://movim.eu}spaces_subscriptions_node"),
            )
        ),
        *(
            Analyser(
                name=f"mix-{name}",
                type="participant",
                node=f"{mix.NODES}{name}",
                parser=mix.parse_participant,
                why="Members of a channel come and go, and are for its members only.",
            )
            for name in ("participants", "jidmap")
        ),
        Analyser(
            name="mix-info",
            type="channel",
            node=f"{mix.NODES}info",
            to_sync=True,
            parser=dataform.parse_form,
            why="Public descriptions of channels are read often and seldom change.",
        ),
        Analyser(
            name="mix-config",
            type="channel",
            node=f"{mix.NODES}config",
            parser=dataform.parse_form,
            why="Only administrators of a channel read it.",
        ),
    ]


def _by_payload() -> list[Analyser]:
    return [
        Analyser(
            name="microblog",
            type="blog",
            node="urn:xmpp:microblog:0",
            namespace=ATOM,
            to_sync=True,
            parser=microblog.parse,
            match_cb=mark_comments,
            why=CONTENT,
            template=f"{TEMPLATES}/post.html",
        ),
        Analyser(
            name="calendar-events",
            type="event",
            node="urn:xmpp:calendar-events:",
            namespace=calendar_events.EVENTS,
            to_sync=True,
            parser=calendar_events.parse,
            match_cb=mark_invitees,
            why=CONTENT,
            template=f"{TEMPLATES}/event.html",
        ),
        Analyser(
            name="events",
            type="event",
            node="urn:xmpp:events:",
            namespace=calendar_events.FORMER_EVENTS,
            to_sync=True,
            parser=calendar_events.parse,
            match_cb=mark_invitees,
            why=CONTENT,
            template=f"{TEMPLATES}/event.html",
        ),
        Analyser(
            name="forms",
            type="form",
            node="fdp/",
            namespace=dataform.DATA,
            to_sync=True,
            parser=dataform.parse_form,
            match_cb=mark_forms,
            why=CONTENT,
            template=f"{TEMPLATES}/form.html",
        ),
        Analyser(
            name="stickers",
            type="stickers",
            node="urn:xmpp:stickers:",
            namespace=stickers.STICKERS,
            to_sync=True,
            parser=stickers.parse_pack,
            why="Public packs are read often and seldom change.",
        ),
        Analyser(
            name="spaces",
            type="space",
            namespace=bookmarks.BOOKMARKS,
            to_sync=True,
            parser=spaces.parse_content,
            why=CONTENT,
        ),
        Analyser(
            name="vcards",
            type="profile",
            namespace=vcard4.VCARD,
            to_sync=True,
            parser=vcard4.parse_vcard,
            template=f"{TEMPLATES}/profile.html",
            why=PROFILE,
        ),
        Analyser(
            name="links",
            type="link",
            namespace=links.OOB,
            to_sync=True,
            parser=links.parse_link,
            why=CONTENT,
        ),
        Analyser(
            name="serverinfo",
            type="server",
            node="serverinfo",
            namespace=serverinfo.SERVERINFO,
            to_sync=True,
            parser=serverinfo.parse_serverinfo,
            why="Public, small, and meant for directories of servers.",
        ),
        *(
            Analyser(
                name=f"encrypted-{scheme}",
                type="encrypted",
                namespace=namespace,
                to_sync=True,
                parser=encrypted.parse_encrypted,
                why="Content for people who have the key. For all others, only the metadata is readable.",
            )
            for scheme, namespace in (("oxps", encrypted.OXPS), ("pte", encrypted.PTE))
        ),
    ]


def register() -> None:
    """Register all built-in analysers."""
    for analyser in builtin_analysers():
        register_analyser(analyser)
