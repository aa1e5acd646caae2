"""The analysers that come with the application."""

from pubsubcache.analysers.base import Analysis
from pubsubcache.analysers.registry import register_analyser
from pubsubcache.parsers import microblog

ATOM = "http://www.w3.org/2005/Atom"


def mark_comments(analysis: Analysis) -> None:
    """Tell nodes of comments (XEP-0277, 3) from blogs."""
    if microblog.is_comments_node(analysis.node):
        analysis.subtype = "comment"


def register() -> None:
    """Register them."""
    register_analyser(
        name="microblog",
        type="blog",
        node="urn:xmpp:microblog:0",
        namespace=ATOM,
        to_sync=True,
        parser=microblog.parse_entry,
        match_cb=mark_comments,
    )
