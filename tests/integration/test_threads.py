"""The worker's calls of the store hold up no reader in the same process."""

import asyncio
import gc
import sys
import threading

import pytest

from pubsubcache.models import Account
from pubsubcache.store import in_thread, own_thread
from pubsubcache.worker import process

pytestmark = pytest.mark.django_db(transaction=True)


async def test_reader_is_served_beside_a_call_of_those_with_a_thread_of_their_own() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def write() -> str:
        begun.set()
        assert may_end.wait(30)
        Account.objects.create(jid="alice@example.org")
        return threading.current_thread().name

    async def work() -> list[str]:
        async with own_thread():
            return [await asyncio.create_task(in_thread(write)()), await in_thread(threading.current_thread)()]

    task = asyncio.create_task(work())
    try:
        async with asyncio.timeout(30):
            await asyncio.to_thread(begun.wait)
            assert await in_thread(Account.objects.count)() == 0
    finally:
        may_end.set()
    own, again = await task
    assert own == again.name  # type: ignore[attr-defined]
    assert await in_thread(Account.objects.count)() == 1
    assert (await in_thread(threading.current_thread)()).name != own


def test_process_changes_threads_often_and_collects_no_imports() -> None:
    before = sys.getswitchinterval()
    try:
        process.set_up()
        assert sys.getswitchinterval() == pytest.approx(process.SWITCH_INTERVAL)
        assert gc.get_freeze_count() > 10_000
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()
