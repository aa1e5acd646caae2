"""The steps of histories: lists that can be stored as JSON, such as ["publish", 0, 3, "plain"].

The first number is that of the node, see `tests.oracle.world.KINDS`.
"""

import json
from typing import Any

from hypothesis import strategies as st

Step = list[Any]

#: Ids that services accept but that tend to break code.
IDS = [
    "item-0", "item-1", "item-2", "item-3", "item-4", "item-5",
    "<&> \"quoted\" 'twice'", "  spaces  ", "Ünïcödé 漢字 🙂", "%2F/../?a=b#c", "line\nbreak", "x" * 1000, "0",
]  # fmt: skip
PAYLOADS = ["plain", "plain", "other", "empty", "two", "none", "large", "odd"]

node = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4])
number = st.integers(0, len(IDS) - 1)
payload = st.sampled_from(PAYLOADS)
seed = st.integers(0, 999)
few = st.integers(1, 15)

form = st.one_of(
    st.just({}),
    st.builds(lambda n: {"max_items": n}, few),
    st.builds(lambda picks: {"item_ids": [IDS[pick] for pick in picks]}, st.lists(number, min_size=1, max_size=4)),
    st.builds(lambda n: {"rsm": {"max": n}}, st.integers(0, 15)),
    st.builds(lambda n: {"rsm": {"max": n, "before": ""}}, few),
    st.builds(lambda n, index: {"rsm": {"max": n, "index": index}}, few, st.integers(0, 6)),
)

step: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("publish"), node, number, payload),
    st.tuples(st.just("publish"), node, number, st.just("plain")),
    st.tuples(st.just("burst"), node, st.integers(2, 25), seed),
    st.tuples(st.just("burst"), node, st.integers(2, 25), seed),
    st.tuples(st.just("race"), node, st.sampled_from(["retract", "first", "first", "new"]), seed),
    st.tuples(st.just("race"), node, st.sampled_from(["retract", "first"]), seed),
    st.tuples(st.just("retract"), node, number, st.booleans()),
    st.tuples(st.just("purge"), node),
    st.tuples(st.just("delete"), node),
    st.tuples(st.just("recreate"), node, st.integers(0, 5)),
    st.tuples(st.just("limit"), node, st.sampled_from([1, 3, 8, 1000])),
    st.tuples(st.just("access"), node, st.sampled_from(["whitelist", "open"])),
    st.tuples(st.just("read"), node, form),
    st.tuples(st.just("read"), node, form),
    st.tuples(st.just("walk"), node, st.integers(1, 6), st.booleans()),
    st.tuples(st.just("sync"), node),
    st.tuples(st.just("evict"), node, st.integers(0, 10)),
    st.tuples(st.just("offline")),
    st.tuples(st.just("online")),
    st.tuples(st.just("cut")),
    st.tuples(st.just("cut_after"), st.integers(1, 4000)),
    st.tuples(st.just("slow"), st.sampled_from([0.0, 0.005, 0.02])),
    st.tuples(st.just("stale"), node, seed),
    st.tuples(st.just("clock"), st.sampled_from([0, -3600, -20, 20, 3600])),
    st.tuples(st.just("silence"), node, st.integers(1, 10), seed),
    st.tuples(st.just("mute"), st.booleans()),
    st.tuples(st.just("endless"), st.sampled_from(["news", "circle", "empty"])),
    st.tuples(st.just("settle")),
    st.tuples(st.just("settle")),
    st.tuples(st.just("settle")),
).map(list)

histories = st.lists(step, min_size=4, max_size=30)
final_forms = st.lists(form, min_size=2, max_size=4)


def written(history: list[Step], forms: list[dict[str, Any]]) -> str:
    """Return a history, with the reads that are compared after it, as JSON for replaying."""
    return json.dumps({"history": history, "forms": forms})
