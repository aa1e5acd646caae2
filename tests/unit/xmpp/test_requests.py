"""Test the requests of a client whose services may not answer."""

import asyncio
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from slixmpp import JID, Iq

from pubsubcache.exceptions import ServiceUnreachable, TooLarge
from pubsubcache.xmpp import turns
from pubsubcache.xmpp.requests import Requests

GOOD, SILENT = "good.example.org", "silent.example.org"


class FakeClient:
    """Fake client; the services in `silent` do not answer, and those in `skipped` have too large answers."""

    def __init__(self) -> None:
        self.boundjid = JID("alice@example.org/x")
        self.default_ns = "jabber:client"
        self.silent: set[str] = set()
        self.skipped: set[str] = set()
        self.sizes: dict[str, int] = {}
        self.stanza_size = 0
        self.requests: Any = None
        self.sent: list[str] = []
        self._number = 0
        self._handler: Any = None

    def register_handler(self, handler: Any) -> None:
        self._handler = handler

    def new_id(self) -> str:
        self._number += 1
        return str(self._number)

    def Iq(self, stype: str, sto: JID, sid: str) -> Iq:
        return Iq(stype=stype, sto=sto, sid=sid)

    def send(self, iq: Iq) -> None:
        to = iq["to"].full
        self.sent.append(to)
        if (iq["to"].domain or self.boundjid.domain) not in self.silent:
            answer = Iq(stype="result", sid=iq["id"], sfrom=to)
            asyncio.get_running_loop().call_soon(self._deliver, answer)

    def _deliver(self, answer: Iq) -> None:
        self.stanza_size = self.sizes.get(answer["from"].domain, 100)
        if answer["from"].domain in self.skipped:
            self.requests.skipped(answer.xml, "It is too large.")
        elif self._handler.match(answer):
            self._handler.prerun(answer)
            self._handler.run(answer)


@pytest.fixture
async def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def requests(client: FakeClient) -> Requests:
    client.requests = made = Requests(client)  # type: ignore[arg-type]
    made.begin()
    return made


async def ask(requests: Requests, to: str) -> Element:
    return await requests.send("get", to, Element("{u}x"))


async def test_good_service_answers_behind_readers_of_a_silent_one(client: FakeClient, requests: Requests) -> None:
    client.silent.add(SILENT)
    readers = [asyncio.create_task(ask(requests, SILENT)) for _ in range(100)]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        for _ in range(10):
            assert (await ask(requests, GOOD)).get("type") == "result"
    assert client.sent.count(SILENT) == turns.MAX_PENDING_OF_SERVICE
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    client.silent.clear()
    await ask(requests, SILENT)


@pytest.mark.parametrize("skips", [False, True])
async def test_service_with_large_answers_has_few_requests_on_their_way(
    client: FakeClient, requests: Requests, skips: bool
) -> None:
    client.sizes[SILENT] = 10 * turns.HEAVY
    if skips:
        client.skipped.add(SILENT)
        with pytest.raises(TooLarge):
            await ask(requests, SILENT)
    else:
        await ask(requests, SILENT)
    client.sent.clear()
    client.silent.add(SILENT)
    readers = [asyncio.create_task(ask(requests, SILENT)) for _ in range(10)]
    await asyncio.sleep(0)
    assert len(client.sent) == turns.MAX_HEAVY
    for reader in readers:
        reader.cancel()


async def test_burst_of_requests_to_a_good_service_is_answered(requests: Requests) -> None:
    answers = await asyncio.gather(*(ask(requests, GOOD) for _ in range(500)))
    assert {answer.get("type") for answer in answers} == {"result"}


async def test_services_of_one_domain_share_its_turns(client: FakeClient, requests: Requests) -> None:
    client.silent.add(SILENT)
    readers = [asyncio.create_task(ask(requests, f"user{number}@{SILENT}")) for number in range(40)]
    await asyncio.sleep(0)
    assert len(client.sent) == turns.MAX_PENDING_OF_SERVICE
    for reader in readers:
        reader.cancel()


@pytest.mark.parametrize("to", [SILENT, "", "alice@example.org"])
async def test_silent_service_gets_no_requests_until_it_answers(
    client: FakeClient, requests: Requests, settings: Any, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    domain = JID(to).domain or "example.org"
    settings.PUBSUBCACHE_IQ_TIMEOUT = 0.01
    client.silent.add(domain)
    for _ in range(turns.SILENT_AFTER):
        with pytest.raises(ServiceUnreachable, match="did not answer"):
            await ask(requests, to)
    assert requests.silent() == {domain}
    with pytest.raises(ServiceUnreachable, match="is asked again in 5 s"):
        await ask(requests, to)
    assert len(client.sent) == turns.SILENT_AFTER
    client.silent.clear()
    settings.PUBSUBCACHE_IQ_TIMEOUT = 5
    await requests.ping(domain)  # sent before its turn
    assert requests.silent() == frozenset()
    await ask(requests, to)


async def test_lost_session_fails_waiting_requests_but_marks_no_service_silent(
    client: FakeClient, requests: Requests
) -> None:
    client.silent.add(SILENT)
    readers = [asyncio.create_task(ask(requests, SILENT)) for _ in range(50)]
    await asyncio.sleep(0)
    requests.fail_all(ServiceUnreachable("lost"))
    results = await asyncio.wait_for(asyncio.gather(*readers, return_exceptions=True), 20)
    assert {str(result) for result in results} == {"lost"}
    requests.begin()
    client.silent.clear()
    await asyncio.gather(*(ask(requests, SILENT) for _ in range(50)))
    assert requests.silent() == frozenset()
