"""Requests to pubsub services.

`protocol` defines the requests. `sessions` knows the sessions of this process, `remote` sends requests to the worker
that holds the account, and `consumers` answers them there. `pager` reads a whole node, `fetching` answers one read.
"""
