"""An account that sends any XML to users who do not have it as a contact."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from slixmpp import ClientXMPP

from tests.acceptance.site import TIMEOUT
from tests.servers.xmpp import XmppServer


class Stranger(ClientXMPP):
    """A client of `user`; see `open_stranger`."""

    def __init__(self, server: XmppServer, user: str) -> None:
        super().__init__(f"{server.jid(user)}/{uuid4().hex}", server.users[user])
        self.home = server.domain
        self.ca_certs = server.ca_file
        self.register_plugin("xep_0199")

    async def say(self, *stanzas: str) -> None:
        """Send stanzas, and return when the server has processed them."""
        for stanza in stanzas:
            self.send_raw(stanza)
        await self.plugin["xep_0199"].send_ping(self.home)

    async def chat(self, to: str, extension: str) -> None:
        """Send a chat message with the XML `extension` to the JID `to`."""
        await self.say(f"<message to='{to}' type='chat'><body>hi</body>{extension}</message>")


@asynccontextmanager
async def open_stranger(server: XmppServer, user: str = "carol") -> AsyncIterator[Stranger]:
    """Log `user` in, with TLS and SCRAM."""
    stranger = Stranger(server, user)
    begun = stranger.loop.create_future()
    stranger.add_event_handler("session_start", lambda event: begun.set_result(None), disposable=True)
    stranger.connect(server.host, server.port)
    try:
        async with asyncio.timeout(TIMEOUT):
            await begun
        yield stranger
    finally:
        await stranger.disconnect(wait=0.5)
