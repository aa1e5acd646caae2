"""A router for the workers' channel, for sites whose ASGI application refers to it.

Workers do not need it, because they create their consumer themselves.
"""

from channels.routing import ChannelNameRouter

from pubsubcache.conf import settings
from pubsubcache.services.consumers import PubsubConsumer

channel_router = ChannelNameRouter({settings.CHANNEL: PubsubConsumer.as_asgi()})
