"""A private Redis that keeps nothing on disk."""

import socket

from project.sample.process import PrivateServer, find_program


class Redis(PrivateServer):
    """A Redis on loopback; what it held is gone when it stops."""

    name = "redis"

    @property
    def url(self) -> str:
        """The server as a REDIS_URL."""
        return f"redis://{self.host}:{self.port}/0"

    def command(self) -> list[str]:
        """Return the command line of the process, which stays in the foreground."""
        persistence = ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        place = ["--bind", self.host, "--port", str(self.port), "--daemonize", "no"]
        return [find_program("redis-server", "redis-server"), *place, *persistence]

    def is_ready(self) -> bool:
        """Whether the server takes commands."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
