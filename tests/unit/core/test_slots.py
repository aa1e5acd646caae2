"""Test that work on nodes is shared fairly between services."""

import pytest

from pubsubcache.worker.slots import MAX_SERVED, Slots


@pytest.mark.parametrize(("total", "share"), [(1, 1), (2, 1), (3, 1), (4, 2), (9, 4)])
def test_service_has_at_most_half_of_the_slots(total: int, share: int) -> None:
    slots = Slots(lambda: total)
    assert [slots.take("a") for _ in range(total + 1)].count(True) == share
    assert slots.free == total - share
    assert slots.full == {"a"}


def test_last_free_slot_goes_to_a_service_without_one() -> None:
    slots = Slots(lambda: 4)
    assert [slots.take(service) for service in "aabb"] == [True, True, True, False]
    assert slots.full == {"a", "b"}
    assert slots.take("c")
    assert not slots.take("d")


def test_released_slots_can_be_taken_again() -> None:
    slots = Slots(lambda: 2)
    for _ in range(10):
        assert slots.take("a")
        assert not slots.take("a")
        slots.release("a")
    assert slots.free == 2
    assert slots.full == frozenset()


def test_round_ends_when_a_service_is_served_again() -> None:
    slots = Slots(lambda: 9)
    for service in "abc":
        slots.take(service)
    assert slots.served == {"a", "b", "c"}
    slots.take("b")
    assert slots.served == {"b"}


def test_number_of_remembered_services_is_bounded() -> None:
    slots = Slots(lambda: 10 * MAX_SERVED)
    for number in range(5 * MAX_SERVED):
        slots.take(str(number))
    assert len(slots.served) == MAX_SERVED
