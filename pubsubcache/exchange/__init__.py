"""Nodes as files: exported from one cache, imported into another, equal row by row.

A file is a sequence of records (see `records`), written as JSON lines or as XML. Both are streamed both ways.
"""

from pubsubcache.exchange.files import FORMATS, export_nodes, staged

__all__ = ["FORMATS", "export_nodes", "staged"]
