"""Parser for information about servers and their federation (XEP-0485)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, child, child_text, children, integer, payload
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import INTEGER, JID, WORDS, Shape, words

SERVERINFO = "urn:xmpp:serverinfo:0"
VERSION = "jabber:iq:version"
PROSODY = "xmpp:prosody.im/protocol/serverinfo"

SOFTWARE = Shape("query", VERSION, children=words("name", "version", "os", once=True), once=True)
REMOTE_DOMAIN = Shape(
    "remote-domain", attributes={"name": JID}, children=(Shape("connection", attributes={"type": WORDS}),)
)

SERVERS = Schema(
    title="Server information",
    about="The domains of a server, and the servers that they exchange messages with (XEP-0485).",
    payloads=(
        Shape(
            "serverinfo",
            SERVERINFO,
            children=(
                Shape(
                    "domain",
                    attributes={"name": JID},
                    children=(
                        Shape("federation", children=(REMOTE_DOMAIN,), once=True),
                        Shape("users", PROSODY, children=(Shape("active", text=INTEGER, once=True),), once=True),
                        SOFTWARE,
                    ),
                ),
                SOFTWARE,
            ),
        ),
    ),
    keys=(
        Key("domains", "list of objects", "The domains, each `{name, federation, active_users, software}`."),
        Key("software", "object or null", "What the server runs: `{name, version, os}` (XEP-0092)."),
    ),
    notes=(
        "`federation` lists the other domains, each `{name, connections}`. Its `name` is null if the domain has not "
        "agreed to be named. `connections` has one entry per connection, its direction: incoming, outgoing, bidi, or "
        "null. `active_users` is the number of accounts in use, which Prosody publishes, or null. A domain has its own "
        "`software` only if that is published within the domain."
    ),
)


@reads(SERVERS)
def parse_serverinfo(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse server information (XEP-0485).

    Raises:
        ParseError: The item does not contain server information.
    """
    element = payload(item, "serverinfo", SERVERINFO)
    return {
        "domains": [_domain(one) for one in children(element, "domain", SERVERINFO)],
        "software": _software(element),
    }


def _domain(element: Element) -> dict[str, Any]:
    federation, users = child(element, "federation", SERVERINFO), child(element, "users", PROSODY)
    remotes = () if federation is None else children(federation, "remote-domain", SERVERINFO)
    return {
        "name": uris.bare(element.get("name")),
        "federation": [_remote_domain(one) for one in remotes],
        "active_users": None if users is None else integer(child_text(users, "active", PROSODY)),
        "software": _software(element),
    }


def _remote_domain(element: Element) -> dict[str, Any]:
    connections = children(element, "connection", SERVERINFO)
    return {"name": uris.bare(element.get("name")), "connections": [attribute(one, "type") for one in connections]}


def _software(element: Element) -> dict[str, str | None] | None:
    query = child(element, "query", VERSION)
    return None if query is None else {name: child_text(query, name, VERSION) for name in ("name", "version", "os")}
