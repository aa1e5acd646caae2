"""Where the channels of the workers lead."""

from channels.routing import ChannelNameRouter

from pubsubcache.conf import settings
from pubsubcache.services.consumers import PubsubConsumer

channel_router = ChannelNameRouter({settings.CHANNEL: PubsubConsumer.as_asgi()})
