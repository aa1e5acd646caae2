"""Test how requests are built and answers are parsed."""

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element, canonicalize, fromstring, tostring

import pytest

from pubsubcache.exceptions import Forbidden, ItemNotFound, NodeTooLarge, ServiceError, TooLarge
from pubsubcache.types import Directory, Entry, ItemsRequest, NodeAddress, Rsm, Subscription, known_id
from pubsubcache.xmpp import pubsub
from pubsubcache.xmpp.requests import stanza_error

NODE = NodeAddress("pubsub.example.org", "n")
PUBSUB = "http://jabber.org/protocol/pubsub"


class Service:
    """Answers each request with the next of `answers`, and records the requests."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, str]] = []

    async def __call__(self, kind: str, to: str, payload: Element) -> Element:
        self.asked.append((kind, to, canonicalize(tostring(payload))))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return fromstring(f"<iq xmlns='jabber:client' type='result'>{answer}</iq>")


def same(xml: str) -> str:
    return canonicalize(tostring(fromstring(xml)))


async def request_of(call: Callable[[Service], Any], *answers: str) -> tuple[str, str, str]:
    service = Service(*(answers or ("",)))
    await call(service)
    return service.asked[0]


@pytest.mark.parametrize(
    ("request_", "inside"),
    [
        (ItemsRequest(), "<items node='n'/>"),
        (ItemsRequest(max_items=3), "<items node='n' max_items='3'/>"),
        (ItemsRequest(item_ids=("b", "a&")), "<items node='n'><item id='b'/><item id='a&amp;'/></items>"),
        (
            ItemsRequest(rsm=Rsm(max=2, after="x"), max_items=5),
            "<items node='n' max_items='5'/><set xmlns='http://jabber.org/protocol/rsm'><max>2</max><after>x</after></set>",
        ),
        (
            ItemsRequest(rsm=Rsm(max=0, before="")),
            "<items node='n'/><set xmlns='http://jabber.org/protocol/rsm'><max>0</max><before/></set>",
        ),
        (
            ItemsRequest(rsm=Rsm(index=0)),
            "<items node='n'/><set xmlns='http://jabber.org/protocol/rsm'><index>0</index></set>",
        ),
        (
            ItemsRequest(order_by="modification"),
            "<items node='n'/><order xmlns='urn:xmpp:order-by:1' by='modification'/>",
        ),
    ],
)
async def test_requests_for_items(request_: ItemsRequest, inside: str) -> None:
    asked = await request_of(lambda service: pubsub.get_items(service, NODE, request_))
    assert asked == ("get", NODE.service, same(f"<pubsub xmlns='{PUBSUB}'>{inside}</pubsub>"))


async def test_answers_with_items_and_their_page() -> None:
    service = Service(
        f"<pubsub xmlns='{PUBSUB}'><items node='n'>"
        "<item id='b' publisher='p@x'><x xmlns='u'/></item><item id='a'/></items>"
        "<set xmlns='http://jabber.org/protocol/rsm'><first index='3'>c1</first><last>c2</last><count>9</count>"
        "</set></pubsub>"
    )
    page = await pubsub.get_items(service, NODE, ItemsRequest(rsm=Rsm(max=2)))
    assert [(item.id, item.publisher) for item in page.items] == [("b", "p@x"), ("a", None)]
    assert page.rsm == Rsm(first="c1", last="c2", index=3, count=9)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("<count>0</count>", Rsm(count=0)),
        ("<first index='-3'>a</first><last>b</last><count>x</count>", Rsm(first="a", last="b")),
        ("<first index='99999999999999999999'>a</first><last/>", Rsm(first="a", last="")),
    ],
)
async def test_malformed_pages_are_read_partially(inside: str, expected: Rsm) -> None:
    service = Service(f"<pubsub xmlns='{PUBSUB}'><set xmlns='http://jabber.org/protocol/rsm'>{inside}</set></pubsub>")
    assert (await pubsub.get_items(service, NODE, ItemsRequest())).rsm == expected


async def test_item_over_the_bounds_is_left_out(settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_ITEM_SIZE = 100
    items = f"<item id='a'><x>{'y' * 200}</x></item><item id='b'/>"
    service = Service(f"<pubsub xmlns='{PUBSUB}'><items>{items}</items></pubsub>")
    odd, good = (await pubsub.get_items(service, NODE, ItemsRequest())).items
    assert (odd.id, odd.xml, odd.left_out) == ("a", "", "The item is longer than 100 bytes.")
    assert (good.id, good.left_out) == ("b", "")


async def test_list_of_ids_has_the_short_form_of_a_long_id() -> None:
    service = Service(
        f"<query xmlns='http://jabber.org/protocol/disco#items'><item jid='s' name='{'x' * 3000}'/></query>"
    )
    assert await pubsub.get_item_ids(service, NODE) == [known_id("x" * 3000)]


def ids_page(ids: str, rsm: str = "") -> str:
    items = "".join(f"<item jid='pubsub.example.org' name='{name}'/>" for name in ids)
    page = f"<set xmlns='http://jabber.org/protocol/rsm'>{rsm}</set>" if rsm else ""
    return f"<query xmlns='http://jabber.org/protocol/disco#items' node='n'>{items}{page}</query>"


async def test_item_ids_are_listed() -> None:
    service = Service(ids_page("cab"))
    assert await pubsub.get_item_ids(service, NODE) == ["c", "a", "b"]
    query = "<query xmlns='http://jabber.org/protocol/disco#items' node='n'/>"
    assert service.asked == [("get", NODE.service, same(query))]


async def test_pages_of_item_ids_are_followed_to_their_end() -> None:
    service = Service(
        ids_page("ab", "<last>b</last><count>5</count>"),
        ids_page("cd", "<last>d</last><count>5</count>"),
        ids_page("e", "<last>e</last><count>5</count>"),
    )
    assert await pubsub.get_item_ids(service, NODE) == list("abcde")
    assert "<ns1:after>b</ns1:after>" in service.asked[1][2]


async def test_repeated_pages_of_item_ids_raise_an_error() -> None:
    service = Service(*[ids_page("ab", "<last>b</last>")] * 5)
    with pytest.raises(ServiceError, match="pages of its list of items repeat"):
        await pubsub.get_item_ids(service, NODE)
    assert len(service.asked) == 2


class EndlessService:
    """Returns endless pages of item ids; `names(number)` returns those of a page."""

    def __init__(self, names: Callable[[int], list[str]]) -> None:
        self.names = names
        self.pages = 0

    async def __call__(self, kind: str, to: str, payload: Element) -> Element:
        self.pages += 1
        items = "".join(f"<item jid='s' name='{name}'/>" for name in self.names(self.pages))
        page = f"<set xmlns='http://jabber.org/protocol/rsm'><last>{self.pages}</last></set>"
        return fromstring(f"<iq><query xmlns='http://jabber.org/protocol/disco#items'>{items}{page}</query></iq>")


async def test_endless_item_ids_are_refused(settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_NODE_ITEMS = 3
    service = EndlessService(lambda number: [f"{number}-1", f"{number}-2"])
    with pytest.raises(NodeTooLarge, match="over 12 items"):
        await pubsub.get_item_ids(service, NODE)
    assert service.pages == 7


async def test_pages_without_new_item_ids_end() -> None:
    service = EndlessService(lambda number: ["a", "b"])
    with pytest.raises(ServiceError, match="pages of its list of items repeat"):
        await pubsub.get_item_ids(service, NODE)
    assert service.pages == 4


async def test_many_small_pages_of_item_ids_end(settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_NODE_ITEMS = 1000
    service = EndlessService(lambda number: [str(number)])
    with pytest.raises(ServiceError, match="no end of the node after 1001 pages"):
        await pubsub.get_item_ids(service, NODE)


async def test_memory_of_long_item_ids_is_bounded(settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_NODE_ITEMS = 100
    service = EndlessService(lambda number: [f"{number}-{'x' * 2000}"])
    with pytest.raises(NodeTooLarge, match="characters"):
        await pubsub.get_item_ids(service, NODE)
    assert service.pages < 20


async def test_subscription_is_requested_and_read() -> None:
    answer = f"<pubsub xmlns='{PUBSUB}'><subscription node='n' jid='a@x' subscription='pending'/></pubsub>"
    service = Service(answer)
    got = await pubsub.subscribe(service, NODE, "a@x")
    assert got == Subscription(jid="a@x", state="pending", node="n")
    assert service.asked == [
        ("set", NODE.service, same(f"<pubsub xmlns='{PUBSUB}'><subscribe node='n' jid='a@x'/></pubsub>"))
    ]


async def test_subscriptions_are_listed_with_their_node() -> None:
    inner = "<subscription jid='a@x' subscription='subscribed'/>"
    inner += "<subscription node='m' jid='a@x' subscription='subscribed'/>"
    answer = f"<pubsub xmlns='{PUBSUB}'><subscriptions node='n'>{inner}</subscriptions></pubsub>"
    assert [entry.node for entry in await pubsub.get_subscriptions(Service(answer), NODE)] == [NODE.name]


def subscriptions(*subids: str) -> str:
    inner = "".join(f"<subscription jid='a@x' subid='{subid}' subscription='subscribed'/>" for subid in subids)
    inner += "<subscription jid='a@x/resource' subid='0' subscription='subscribed'/>"
    return f"<pubsub xmlns='{PUBSUB}'><subscriptions node='n'>{inner}</subscriptions></pubsub>"


def unsubscribed(service: Service) -> list[str | None]:
    """Return the ids of the subscriptions in unsubscribe requests."""
    asked = [fromstring(payload).find(f"{{{PUBSUB}}}unsubscribe") for _, _, payload in service.asked]
    return [element.get("subid") for element in asked if element is not None]


async def test_earlier_subscriptions_are_ended() -> None:
    made = f"<pubsub xmlns='{PUBSUB}'><subscription node='n' jid='a@x' subid='7' subscription='subscribed'/></pubsub>"
    service = Service(made, subscriptions("5", "7", "6"), "", "")
    assert (await pubsub.subscribe(service, NODE, "a@x")).subid == "7"
    assert unsubscribed(service) == ["5", "6"]
    assert (await pubsub.subscribe(Service(made, ServiceError("bad-request")), NODE, "a@x")).subid == "7"


async def test_all_subscriptions_are_ended_if_ids_are_required() -> None:
    refusal = ServiceError("bad-request", "subid-required")
    service = Service(refusal, subscriptions("5", "7"), "", "")
    await pubsub.unsubscribe(service, NODE, "a@x")
    assert unsubscribed(service) == [None, "5", "7"]
    with pytest.raises(ServiceError):
        await pubsub.unsubscribe(Service(ServiceError("not-acceptable", "invalid-subid")), NODE, "a@x", "8")


async def test_superfluous_subscriptions_are_ended_a_few_at_a_time() -> None:
    made = f"<pubsub xmlns='{PUBSUB}'><subscription node='n' jid='a@x' subid='7' subscription='subscribed'/></pubsub>"
    many = subscriptions(*(f"other-{number}" for number in range(500)))
    service = Service(made, many, *[""] * 500)
    assert (await pubsub.subscribe(service, NODE, "a@x")).subid == "7"
    assert len(unsubscribed(service)) == pubsub.MAX_ENDED
    service = Service(ServiceError("bad-request", "subid-required"), many, *[""] * 500)
    with pytest.raises(TooLarge):
        await pubsub.unsubscribe(service, NODE, "a@x")
    assert len(unsubscribed(service)) == 1 + pubsub.MAX_ENDED


async def test_lists_of_subscriptions_are_bounded() -> None:
    many = subscriptions(*map(str, range(pubsub.MAX_SUBSCRIPTIONS)))
    with pytest.raises(TooLarge, match="subscriptions"):
        await pubsub.get_subscriptions(Service(many), NODE)


async def test_unsubscribing_without_a_subscription_succeeds() -> None:
    await pubsub.unsubscribe(Service(ItemNotFound()), NODE, "a@x")
    await pubsub.unsubscribe(Service(ServiceError("unexpected-request", "not-subscribed: No")), NODE, "a@x")
    with pytest.raises(Forbidden):
        await pubsub.unsubscribe(Service(Forbidden("forbidden")), NODE, "a@x")
    with pytest.raises(ServiceError):
        await pubsub.unsubscribe(Service(ServiceError("unexpected-request", "other")), NODE, "a@x", "7")


INFO, ITEMS = "http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items"


async def test_directory_has_identities_nodes_and_services() -> None:
    about = f"<query xmlns='{INFO}'><identity category='pubsub' type='pep'/><feature var='x'/></query>"
    inner = "<item jid='a@x' node='n' name='News'/><item jid='pubsub.x'/><item node='m'/>"
    service = Service(about, f"<query xmlns='{ITEMS}'>{inner}</query>")
    found = await pubsub.browse(service, "a@x")
    assert found == Directory(
        ["pubsub/pep"], [Entry("a@x", "n", "News"), Entry("pubsub.x", "", ""), Entry("", "m", "")]
    )
    assert [to for _, to, _ in service.asked] == ["a@x", "a@x"]
    undescribed = Service(ServiceError("feature-not-implemented"), f"<query xmlns='{ITEMS}'/>")
    assert await pubsub.browse(undescribed, "a@x") == Directory([], [])


async def test_directories_are_bounded() -> None:
    many = "".join(f"<item jid='x' node='{number}'/>" for number in range(pubsub.MAX_BROWSED + 5))
    found = await pubsub.browse(Service("", f"<query xmlns='{ITEMS}'>{many}</query>"), "x")
    assert (len(found.entries), found.is_cut) == (pubsub.MAX_BROWSED, True)
    long = f"<item jid='x' node='{'n' * 5000}'/><item jid='x' node='n' name='{'x' * 5000}'/>"
    found = await pubsub.browse(Service("", f"<query xmlns='{ITEMS}'>{long}</query>"), "x")
    assert ([entry.node for entry in found.entries], found.is_cut) == (["n"], True)
    assert len(found.entries[0].name) == pubsub.MAX_LABEL


async def test_publishing_returns_the_id_of_the_service() -> None:
    answer = f"<pubsub xmlns='{PUBSUB}'><publish node='n'><item id='given'/></publish></pubsub>"
    assert await pubsub.publish(Service(answer), NODE, Element("{u}x")) == "given"
    service = Service("")
    assert await pubsub.publish(service, NODE, Element("{u}x"), "mine") == "mine"
    expected = f"<pubsub xmlns='{PUBSUB}'><publish node='n'><item id='mine'><x xmlns='u'/></item></publish></pubsub>"
    assert service.asked == [("set", NODE.service, same(expected))]


@pytest.mark.parametrize(
    ("call", "inside"),
    [
        (
            lambda s: pubsub.retract(s, NODE, "a"),
            f"<pubsub xmlns='{PUBSUB}'><retract node='n' notify='true'><item id='a'/></retract></pubsub>",
        ),
        (
            lambda s: pubsub.retract(s, NODE, "a", notify=False),
            f"<pubsub xmlns='{PUBSUB}'><retract node='n'><item id='a'/></retract></pubsub>",
        ),
        (lambda s: pubsub.purge_node(s, NODE), f"<pubsub xmlns='{PUBSUB}#owner'><purge node='n'/></pubsub>"),
        (lambda s: pubsub.delete_node(s, NODE), f"<pubsub xmlns='{PUBSUB}#owner'><delete node='n'/></pubsub>"),
        (lambda s: pubsub.create_node(s, NODE), f"<pubsub xmlns='{PUBSUB}'><create node='n'/></pubsub>"),
        (
            lambda s: pubsub.configure(s, NODE, {"pubsub#persist_items": True, "pubsub#max_items": 3, "l": ["a", "b"]}),
            f"<pubsub xmlns='{PUBSUB}#owner'><configure node='n'><x xmlns='jabber:x:data' type='submit'>"
            f"<field var='FORM_TYPE' type='hidden'><value>{PUBSUB}#node_config</value></field>"
            "<field var='pubsub#persist_items'><value>1</value></field>"
            "<field var='pubsub#max_items'><value>3</value></field>"
            "<field var='l'><value>a</value><value>b</value></field></x></configure></pubsub>",
        ),
    ],
)
async def test_owner_requests(call: Callable[[Service], Any], inside: str) -> None:
    assert await request_of(call) == ("set", NODE.service, same(inside))


async def test_metadata_is_read_from_the_form() -> None:
    answer = (
        "<query xmlns='http://jabber.org/protocol/disco#info'>"
        "<identity category='pubsub' type='leaf'/><feature var='f'/>"
        "<x xmlns='jabber:x:data' type='result'><field var='pubsub#access_model'><value>open</value></field>"
        "</x></query>"
    )
    assert await pubsub.get_node_metadata(Service(answer), NODE) == {"pubsub#access_model": ("open",)}
    assert await pubsub.get_features(Service(answer), "s") == frozenset({"f"})


@pytest.mark.parametrize(
    ("inside", "kind", "text"),
    [
        ("<item-not-found xmlns='{s}'/><text xmlns='{s}'>No node</text>", ItemNotFound, "No node"),
        ("<not-allowed xmlns='{s}'/><closed-node xmlns='{p}#errors'/>", Forbidden, "closed-node"),
        (
            "<feature-not-implemented xmlns='{s}'/><unsupported xmlns='{p}#errors' feature='retract-items'/>"
            "<text xmlns='{s}'>Sorry</text>",
            ServiceError,
            "unsupported retract-items: Sorry",
        ),
        ("", ServiceError, ""),
    ],
)
def test_errors_keep_their_condition_and_text(inside: str, kind: type[ServiceError], text: str) -> None:
    filled = inside.format(s="urn:ietf:params:xml:ns:xmpp-stanzas", p=PUBSUB)
    error = stanza_error(
        fromstring(f"<iq xmlns='jabber:client' type='error'><error type='cancel'>{filled}</error></iq>")
    )
    assert type(error) is kind
    assert error.text == text
    assert error.condition in (inside or "undefined-condition")
