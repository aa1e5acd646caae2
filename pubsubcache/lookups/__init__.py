"""Database lookups behind the query methods of items. This package does not depend on the models.

- `parsed`: conditions on fields of `parsed`, as ORM expressions, built from `conditions`.
- `hotkeys`: indexed columns for frequently used keys of `parsed`, and tags.
- `fulltext`: the full text index and its query language.
- `snippets`: excerpts of texts with highlighted hits.
- `operations`: migration operations for specific database vendors.
"""
