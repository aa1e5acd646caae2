"""Exports nodes to files and imports them into another cache, with equal rows.

A file is a sequence of records (see `records`), in JSON lines or XML. Both formats are read and written as streams.
"""

from pubsubcache.exchange.files import FORMATS, export_nodes, staged

__all__ = ["FORMATS", "export_nodes", "staged"]
