"""Parsers convert the payload of a pubsub item to a dict that can be stored as JSON.

A parser is a callable `(item, context) -> dict`. `item` is the whole `<item/>` as an `xml.etree.ElementTree.Element`,
`context` is a `ParseContext`. Analysers name the parser to use, and its result is stored in the `parsed` field of the
item. A parser raises `pubsubcache.exceptions.ParseError`, with one readable sentence, when the item does not contain
the payload that it parses. A single field that it cannot read becomes null.

Nothing here needs Django or an XMPP library. Payloads come from strangers, so no parser recurses into them, all counts
are bounded, and markup is sanitised.

Each module parses one family of payloads; for example, `microblog` parses blog posts and comments (XEP-0277, XEP-0472,
RFC 4287). `generic` parses any XML. docs/analysers.md documents the schema of each result. Custom parsers may also use
the helper modules `elements`, `atom`, `html`, `dates`, `uris`, `text` and `encrypted`.
"""

from pubsubcache.parsers.context import ParseContext

__all__ = ["ParseContext"]
