"""A private Redis that keeps nothing on disk."""

import socket
from typing import Any

from django.conf import settings

from project.sample.process import PrivateServer, find_program
from pubsubcache.keys import channel_layer_keys


class Redis(PrivateServer):
    """A Redis on loopback, which loses its data when it stops."""

    name = "redis"

    @property
    def url(self) -> str:
        """The server as a REDIS_URL."""
        return f"redis://{self.host}:{self.port}/0"

    @property
    def channel_layers(self) -> dict[str, Any]:
        """The `CHANNEL_LAYERS` of a site with this server and the keys of the tests' site."""
        keys = channel_layer_keys(settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS)
        # The layer blocks for 5 seconds to wait for a message, which is also the client's default timeout.
        hosts = [{"address": self.url, "socket_timeout": 30}]
        config = {"hosts": hosts, "capacity": 1000, "symmetric_encryption_keys": keys}
        return {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}}

    def command(self) -> list[str]:
        """Return the command line of the process, which stays in the foreground."""
        persistence = ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        place = ["--bind", self.host, "--port", str(self.port), "--daemonize", "no"]
        return [find_program("redis-server", "redis-server"), *place, *persistence]

    def is_ready(self) -> bool:
        """Return whether the server accepts commands."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
