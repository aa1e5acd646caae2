"""Parser for the participants of MIX channels (XEP-0369, XEP-0404). The item id is the participant's stable id."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child_text, namespace_of, payload
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import JID, Shape, words

NODES = "urn:xmpp:mix:nodes:"
CORE = "urn:xmpp:mix:core:1"
FORMER_CORE = "urn:xmpp:mix:core:0"  # until version 0.14.1 of XEP-0369
ANON = "urn:xmpp:mix:anon:0"  # XEP-0404

PARTICIPANTS = Schema(
    title="Participants of channels",
    about="Who is in a MIX channel (XEP-0369), and whose address it is (XEP-0404).",
    payloads=tuple(
        Shape(
            "participant",
            namespace,
            children=(*words("nick", once=True), Shape("jid", text=JID, once=True)),
        )
        for namespace in (CORE, FORMER_CORE, ANON)
    ),
    keys=(
        Key("nick", "text or null", "What the participant is called in the channel."),
        Key("jid", "JID or null", "The participant's real address. Null if the channel hides it."),
    ),
    notes="The item id is the participant's stable id, which the JID map and messages refer to.",
)


@reads(PARTICIPANTS)
def parse_participant(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a participant of a MIX channel (XEP-0369, 4.7.3) or an entry of the JID map (XEP-0404, 2.5).

    Raises:
        ParseError: The item does not contain a participant.
    """
    participant = payload(item, "participant", CORE, FORMER_CORE, ANON)
    space = namespace_of(participant)
    return {
        "nick": child_text(participant, "nick", space),
        "jid": uris.bare(child_text(participant, "jid", space)),
    }
