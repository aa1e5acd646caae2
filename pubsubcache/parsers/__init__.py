"""Parsers of payloads: a plain `<item/>` element in, a dict that JSON can hold out.

A parser is a callable `(item, context) -> dict`, with the whole `<item/>` as an
`xml.etree.ElementTree.Element` and a `ParseContext`. It is named by an analyser, its result is kept in the `parsed`
field of the item. It raises `pubsubcache.exceptions.ParseError`, with one sentence for people, when the item does not
hold what it parses; a field that it can't read is null instead.

Nothing here needs Django or an XMPP library. The payloads come from strangers: nothing recurses over their depth,
counts are bounded, and markup is sanitised before it is handed out.

One module reads one family of payloads, such as `microblog`: blog posts and comments (XEP-0277, XEP-0472, RFC 4287).
docs/analysers.md has the schema of each result; `generic` takes any XML. What parsers of other payloads may use as
well: `elements`, `atom`, `html`, `dates`, `uris`, `text`, and `encrypted`, which describes what cannot be read.
"""

from pubsubcache.parsers.context import ParseContext

__all__ = ["ParseContext"]
