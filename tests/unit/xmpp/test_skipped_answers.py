"""Test requests that cannot be sent, and answers that are skipped."""

import asyncio
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest

from pubsubcache.exceptions import InvalidRequest, TooLarge
from pubsubcache.utils.xmlparse import XML, XMLNS
from pubsubcache.xmpp.client import Client, Login

SERVICE = "pubsub.example.org"


@pytest.mark.parametrize("namespace", ["urn:a}b", 'a"/><b', "a&b", "a<b", XML, XMLNS])
async def test_namespace_that_would_end_the_stream_is_not_sent(namespace: str) -> None:
    client = Client(Login("alice@example.org", "x"), lambda _: None, lambda _: None)
    client.requests.begin()
    payload = Element("{urn:ok}a")
    SubElement(payload, f"{{{namespace}}}b")
    with pytest.raises(InvalidRequest, match="cannot be sent"):
        await client.requests.send("set", SERVICE, payload)


async def test_skipped_answer_fails_only_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(Login("alice@example.org", "x"), lambda _: None, lambda _: None)
    client.requests.begin()
    sent: list[Any] = []
    monkeypatch.setattr(client, "send", sent.append)
    waiting = [asyncio.create_task(client.requests.send("get", SERVICE, Element("{urn:q}q"))) for _ in range(2)]
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))
    assert len(sent) == 2
    first, second = (iq["id"] for iq in sent)
    iq = "{jabber:client}iq"
    client.stanza_skipped(Element(iq, {"type": "result", "id": first, "from": "stranger@example.org"}), "No.")
    client.stanza_skipped(Element("{urn:a}b}iq", {"type": "result", "id": first, "from": SERVICE}), "No.")
    client.stanza_skipped(Element(iq, {"type": "result", "id": "unknown", "from": SERVICE}), "No.")
    client.stanza_skipped(Element(iq, {"type": "error", "id": first, "from": SERVICE}), "Too long.")
    with pytest.raises(TooLarge, match="Too long"):
        await waiting[0]
    answer = Element(iq, {"type": "result", "id": second, "from": SERVICE})
    client._spawn_event(answer)
    assert await waiting[1] is answer
