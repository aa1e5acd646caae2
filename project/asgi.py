"""ASGI application: Django handles HTTP, a consumer handles the channels of workers."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
http = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402

from pubsubcache.routing import channel_router  # noqa: E402

application = ProtocolTypeRouter({"http": http, "channel": channel_router})
