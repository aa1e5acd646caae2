"""Requests to pubsub services.

`protocol` says what can be asked, `sessions` finds who can ask it in this process, `remote` asks the worker that holds
the account, and `consumers` answers there. `pager` reads a whole node, `fetching` answers one request of a reader.
"""
