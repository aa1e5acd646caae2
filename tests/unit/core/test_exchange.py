"""Test the content of exports, without a database."""

from pubsubcache.exchange.records import EXTRA, FIELDS, FOLLOWERS
from pubsubcache.models import NodeTraits, PubsubNode
from pubsubcache.models.traits import TRAITS
from pubsubcache.store.extra import COLUMNS, extra_of, fields_of

LEARNED = {
    "to_sync": True,
    "by_analyser": False,
    "by_hand": True,
    "registry": "a fingerprint",
    "reason": "why",
    "namespace": "urn:example:note",
    "parse_anew": True,
    "rsm": True,
    "cursors": "ids",
    "publishers": False,
    "payload_type": "",
    "moves": False,
    "listed": 5,
    "limit": 5,
    "confirmed": 2**33,
    "probe": [],
}


def test_everything_learned_about_a_node_is_exported() -> None:
    assert EXTRA.keys() == {*COLUMNS, *TRAITS} == LEARNED.keys()


def test_learned_facts_keep_their_keys() -> None:
    for extra in (LEARNED, {}, {"to_sync": False, "registry": "", "reason": ""}, LEARNED | {"unknown": [1]}):
        node = PubsubNode(**fields_of(extra))
        assert extra_of(node) == extra
        assert node.extra.keys() <= {*TRAITS, "unknown"}


def test_traits_are_stored_beside_unknown_keys() -> None:
    node = PubsubNode(extra={"unknown": 1, "limit": 5, "publishers": False})
    assert node.traits == NodeTraits(limit=5, publishers=False)
    node.traits = node.traits.updated(NodeTraits(publishers=True, payload_type=""))
    assert node.extra == {"unknown": 1, "limit": 5, "publishers": True, "payload_type": ""}
    node.traits = NodeTraits()
    assert node.extra == {"unknown": 1}


def test_order_of_records_covers_every_kind() -> None:
    assert set(FOLLOWERS) == {"", *FIELDS}
    assert set().union(*FOLLOWERS.values()) == set(FIELDS)
