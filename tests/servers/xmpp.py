"""What tests want of an XMPP server beyond running it: logins."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from project.sample.prosody import Prosody

if TYPE_CHECKING:
    from pubsubcache.xmpp.session import Login


class XmppServer(Protocol):
    """An XMPP server with accounts, whichever it is."""

    name: str
    domain: str
    host: str
    port: int
    pubsub: str
    users: dict[str, str]

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority to trust."""
        ...

    def jid(self, user: str) -> str:
        """Return the bare JID of `user`."""
        ...

    def login(self, user: str, **changes: Any) -> "Login":
        """Return what a session of `user` needs, with `changes` to it."""
        ...

    def account_fields(self, user: str) -> dict[str, Any]:
        """Return the fields of an `Account` for `user`."""
        ...

    def register(self, user: str, password: str) -> None:
        """Make the account `user`, or give it another password."""
        ...

    def start(self) -> None:
        """Start the server with the data and the port that it had."""
        ...

    def stop(self) -> None:
        """Stop the server."""
        ...

    def restart(self) -> None:
        """Stop and start the server."""
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
        """Return what a session of `user` needs, with `changes` to it."""
        from pubsubcache.xmpp.session import Login

        return Login(**{**self.account_fields(user), **changes})


class TestProsody(Prosody, Logins):
    """A Prosody for tests."""

    __test__ = False
