"""Full text search.

`query` parses search queries and `folding` splits texts into words. `sqlite` and `postgresql` implement the index and
its queries for one database; `schema` creates the index on either.
"""
