"""Full text search: `query` parses what people type, `folding` splits texts into words, `sqlite` and `postgresql` have
the schema and the queries of one database, `schema` those of whichever it is.
"""
