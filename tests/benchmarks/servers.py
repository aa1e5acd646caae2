"""An XMPP server that another process runs; nothing here needs Django."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.xmpp import Logins, XmppServer


@dataclass
class RunningServer(Logins):
    """What is known of the server: `XmppServer`, less starting and stopping it."""

    name: str
    domain: str
    host: str
    port: int
    pubsub: str
    users: dict[str, str]
    component_port: int
    ca_file: Path

    def jid(self, user: str) -> str:
        """Return the bare JID of `user`."""
        return f"{user}@{self.domain}"


def describe(server: XmppServer | RunningServer) -> dict[str, Any]:
    """Return what another process needs to make a `RunningServer`."""
    names = ("name", "domain", "host", "port", "pubsub", "users", "component_port")
    return {**{name: getattr(server, name) for name in names}, "ca_file": str(server.ca_file)}


def running(described: dict[str, Any]) -> RunningServer:
    """Return the server that `describe` described."""
    return RunningServer(**{**described, "ca_file": Path(described["ca_file"])})
