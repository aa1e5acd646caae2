"""XMPP servers for tests, with logins and external components (XEP-0114)."""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from project.sample.process import free_port
from project.sample.prosody import Prosody

if TYPE_CHECKING:
    from pubsubcache.xmpp.session import Login, Session


class XmppServer(Protocol):
    """Any XMPP server with accounts."""

    name: str
    domain: str
    host: str
    port: int
    pubsub: str
    users: dict[str, str]
    component_port: int
    components: tuple[str, ...]

    @property
    def ca_file(self) -> Path:
        """The certificate of the CA to trust."""
        ...

    def jid(self, user: str) -> str:
        """Return the bare JID of `user`."""
        ...

    def login(self, user: str, **changes: Any) -> "Login":
        """Return the parameters of a session of `user`, with `changes`."""
        ...

    def account_fields(self, user: str) -> dict[str, Any]:
        """Return the fields of an `Account` for `user`."""
        ...

    def register(self, user: str, password: str) -> None:
        """Create the account `user`, or change its password."""
        ...

    def start(self) -> None:
        """Start the server with its previous data and port."""
        ...

    def stop(self) -> None:
        """Stop the server."""
        ...

    def restart(self) -> None:
        """Stop and start the server."""
        ...

    def present_certificate(self, pem: bytes) -> None:
        """Use another key and certificate for new connections; open ones are kept."""
        ...


class Logins:
    """Adds logins to an XMPP server."""

    host: str
    port: int
    users: Mapping[str, str]
    ca_file: Path

    def jid(self, user: str) -> str:
        """Return the bare JID of `user`."""
        raise NotImplementedError

    def account_fields(self, user: str) -> dict[str, Any]:
        """Return the fields of an `Account` for `user`."""
        return {
            "jid": self.jid(user),
            "password": self.users[user],
            "host": self.host,
            "port": self.port,
            "ca_file": str(self.ca_file),
        }

    def login(self, user: str, **changes: Any) -> "Login":
        """Return the parameters of a session of `user`, with `changes`."""
        from pubsubcache.xmpp.session import Login

        return Login(**{**self.account_fields(user), **changes})


def is_listening(host: str, port: int) -> bool:
    """Return whether a server accepts connections at this address."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


#: The possible first labels of the domains of external components, and their passwords.
COMPONENTS = ("evil", "worse", "good")
COMPONENT_SECRET = "of components of tests"


class TestProsody(Prosody, Logins):
    """A Prosody for tests, to which external components can connect (XEP-0114).

    Without `stream_management` streams cannot be resumed (XEP-0198).
    """

    __test__ = False

    def __init__(self, folder: Path, port: int = 0, *, stream_management: bool = True, **options: Any) -> None:
        super().__init__(folder, port, **options)
        self.component_port = free_port()
        self.components = tuple(f"{name}.{self.domain}" for name in COMPONENTS)
        self.stream_management = stream_management

    def prepare(self) -> None:
        """Write the configuration and the accounts."""
        super().prepare()
        path = self.folder / "prosody.cfg.lua"
        first = [f"component_ports = {{ {self.component_port} }}", "component_stanza_size_limit = 10485760"]
        last = [f'Component "{name}"\n  component_secret = "{COMPONENT_SECRET}"' for name in self.components]
        if not self.stream_management:
            last.append(f'VirtualHost "{self.domain}"\n  modules_disabled = {{ "smacks" }}')
        path.write_text("\n".join([*first, path.read_text(), *last, ""]))

    def is_ready(self) -> bool:
        """Return whether the server answers clients and accepts components.

        Prosody listens before it handles signals: until it answers, SIGHUP would end it.
        """
        return super().is_ready() and is_listening(self.host, self.component_port) and self._answers()

    def _answers(self) -> bool:
        namespaces = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
        header = f"<stream:stream {namespaces} to='{self.domain}'>"
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as client:
                client.sendall(header.encode())
                return bool(client.recv(1))
        except OSError:
            return False

    def present_certificate(self, pem: bytes) -> None:
        """Use another key and certificate for new connections; open ones are kept."""
        self.certificates.key.write_bytes(pem)
        self.certificates.certificate.write_bytes(pem)
        os.kill(self.pid, signal.SIGHUP)


async def wait_online(session: "Session", seconds: float) -> None:
    """Wait until `session`, which runs in another task, is online. Raises `TimeoutError` after `seconds`."""
    async with asyncio.timeout(seconds):
        while not session.online:  # noqa: ASYNC110  (the session offers nothing to await)
            await asyncio.sleep(0.01)
