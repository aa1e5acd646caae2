"""Parser for files that are shared through nodes (XEP-0498). Nodes are folders, and item ids are the names of files."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import payload
from pubsubcache.parsers.files import FILES, SHARING, shared_file
from pubsubcache.parsers.schema import reads

ROOT = "urn:xmpp:pubsub-file-sharing:0"
UPLOADS = f"{ROOT}:/uploaded"


@reads(FILES)
def parse_shared_file(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a shared file (XEP-0498, 4).

    Raises:
        ParseError: The item does not contain a shared file.
    """
    return shared_file(payload(item, "file-sharing", SHARING))
