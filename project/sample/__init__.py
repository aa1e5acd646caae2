"""What `make run` shows when no account was given: a private XMPP service with nodes to look at."""
