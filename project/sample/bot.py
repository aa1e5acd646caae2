"""Sample slixmpp bot that prints the last titles of a node, and again for each line of input.

    python -m project.sample.bot [-s SERVICE] [-n NODE] [-N COUNT] [--cache]

With --cache, one more line of code makes it read from the cache, even while the server is down, with the same output.
XMPP_JID, XMPP_PASSWORD, XMPP_HOST, XMPP_PORT and XMPP_CA_FILE set the login; the default is alice on the sample server
of `make run`.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from slixmpp import ClientXMPP
from slixmpp.exceptions import IqError, IqTimeout

TIMEOUT = 5.0
SAMPLE = Path(os.environ.get("DATA_DIR") or Path(__file__).resolve().parents[2] / "var") / "sample"


def login() -> dict[str, str]:
    """Return the XMPP_* environment variables without prefix, or the login of the sample if there is no XMPP_JID."""
    given = {name.removeprefix("XMPP_"): value for name, value in os.environ.items() if name.startswith("XMPP_")}
    if given.get("JID") or not (SAMPLE / "passwords.json").exists():
        return given
    return {
        "JID": "alice@sample.test",
        "PASSWORD": json.loads((SAMPLE / "passwords.json").read_text())["alice"],
        "HOST": "127.0.0.1",
        "PORT": (SAMPLE / "port").read_text(),
        "CA_FILE": str(SAMPLE / "certificates" / "ca.pem"),
    }


def title_of(item: Any) -> str:
    """Return the text of the first `<title/>` in the payload, in any namespace, or the item id."""
    titles = (element.text for element in item["payload"].iter() if element.tag.rpartition("}")[2] == "title")
    return " ".join((next(titles, "") or item["id"]).split())


class Bot(ClientXMPP):
    """Logs in and reconnects until `leave`."""

    def __init__(self, who: dict[str, str]) -> None:
        super().__init__(who["JID"], who["PASSWORD"])
        if who.get("CA_FILE"):
            self.ca_certs = Path(who["CA_FILE"])
        self.address = (who.get("HOST", ""), int(who.get("PORT") or 0))
        self.online = asyncio.Event()
        self.register_plugin("xep_0060")
        self.add_event_handler("session_start", lambda event: self.online.set())
        self.add_event_handler("disconnected", self._come_back)

    def _come_back(self, reason: object) -> None:
        self.connect(*self.address)

    async def leave(self) -> None:
        """Log out."""
        self.del_event_handler("disconnected", self._come_back)
        await self.disconnect(wait=1.0)

    async def titles(self, service: str | None, node: str, count: int) -> list[str]:
        """Return the titles of the newest items of a node. Raises `IqError`, or `IqTimeout` after 5 seconds."""
        pubsub: Any = self.plugin["xep_0060"]
        answer = await pubsub.get_items(service, node, max_items=count, timeout=TIMEOUT)
        return [title_of(item) for item in answer["pubsub"]["items"] if item["payload"] is not None]


async def read(bot: Bot, options: argparse.Namespace) -> None:
    """Print the titles once."""
    try:
        titles = await bot.titles(options.service, options.node, options.count)
    except IqTimeout:
        print("The service does not answer.", file=sys.stderr)
    except IqError as error:
        print(f"The service refused: {error.condition}.", file=sys.stderr)
    else:
        print(*titles, "", sep="\n", flush=True)


async def run(who: dict[str, str], options: argparse.Namespace) -> None:
    """Print the titles, and again for each line of standard input."""
    bot = Bot(who)
    if options.cache:
        bot.register_plugin("pubsub_cache", {"account": who["JID"]}, module="pubsubcache.xmpp.plugin")
    bot.connect(*bot.address)
    await asyncio.wait([asyncio.create_task(bot.online.wait())], timeout=TIMEOUT)
    while True:
        await read(bot, options)
        if not await asyncio.to_thread(sys.stdin.readline):
            break
    await bot.leave()


def main() -> None:
    """Run until the end of standard input."""
    parser = argparse.ArgumentParser(description="Print the last titles of a node, again for each line of input.")
    parser.add_argument("-s", "--service", help="JID of the pubsub service; by default the account itself (PEP)")
    parser.add_argument("-n", "--node", default="urn:xmpp:microblog:0")
    parser.add_argument("-N", "--count", type=int, default=10)
    parser.add_argument("--cache", action="store_true", help="answer from the cache")
    options = parser.parse_args()
    who = login()
    if not who.get("JID") or not who.get("PASSWORD"):
        parser.error("set XMPP_JID and XMPP_PASSWORD, or start the sample with make run")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    asyncio.run(run(who, options))


if __name__ == "__main__":
    main()
