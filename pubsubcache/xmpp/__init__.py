"""XMPP transport: sessions, pubsub requests and notifications.

Only this package imports slixmpp. It does not depend on the models.
"""
