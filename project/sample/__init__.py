"""The sample that `make run` starts if no account is given: a private XMPP server with sample nodes."""
