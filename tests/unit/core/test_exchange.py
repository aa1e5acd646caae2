"""Test the content of exports, without a database."""

import re
from pathlib import Path

import pubsubcache
from pubsubcache.exchange.records import EXTRA, FIELDS, FOLLOWERS

APP = Path(pubsubcache.__file__).parent


def test_all_that_is_learned_of_a_node_is_carried() -> None:
    source = "".join(path.read_text() for path in APP.rglob("*.py") if "parsers" not in path.parts)
    pattern = r"""\bextra(?:\[|\.get\(|\.pop\()"(\w+)"|"(\w+)" (?:not )?in \w+(?:\.\w+)*\.extra\b"""
    used = {name for found in re.findall(pattern, source) for name in found if name}
    assert {"moves", "probe", "registry", "limit", "publishers"} <= used
    assert used <= set(EXTRA)


def test_every_record_has_its_place() -> None:
    assert set(FOLLOWERS) == {"", *FIELDS}
    assert set().union(*FOLLOWERS.values()) == set(FIELDS)
