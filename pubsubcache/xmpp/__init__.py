"""XMPP sessions: the only part that knows slixmpp, and it knows no model."""
