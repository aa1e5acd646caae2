"""What the query methods of items are made of, per database vendor; nothing here knows the models.

- `hotkeys`: keys of `parsed` as indexed columns, and tags.
- `containment`: JSON containment.
- `operators`, `values`, `paths`: conditions on fields of `parsed`; `sqlite` and `postgresql` ask them, `indexed` has
  what indexes know of them, `parsed` is for the ORM, `arguments` for command lines.
- `timepatterns`: points in time as people write them.
- `query`: what people type, as a tree; `folding`: the words of texts.
- `fulltext_sqlite`, `fulltext_postgresql`: full text, its schema and its queries; `fulltext`: whichever it is.
- `snippets`: extracts with the hits marked.
- `operations`: what migrations do on one vendor alone.
"""
