"""What the query methods of items are made of, on each database; nothing here knows the models.

- `parsed`: conditions on fields of `parsed`, as expressions of the ORM; `conditions` has their parts.
- `hotkeys`: keys of `parsed` as indexed columns, and tags.
- `fulltext`: the full text index, its queries and its words; `snippets`: extracts with the hits marked.
- `operations`: operations of migrations for one database vendor.
"""
