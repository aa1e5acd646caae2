"""A transparent cache of XMPP publish-subscribe nodes in the site's own database."""

__version__ = "0.1.0"
