"""Test that the worker's store calls do not delay readers in the same process."""

import asyncio
import gc
import sys
import threading

import pytest

from pubsubcache.models import Account
from pubsubcache.store import in_thread, own_thread
from pubsubcache.worker import process

pytestmark = pytest.mark.django_db(transaction=True)


async def test_reader_does_not_wait_for_calls_in_the_own_thread() -> None:
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


def test_process_switches_threads_often_and_freezes_imports() -> None:
    before = sys.getswitchinterval()
    try:
        process.set_up()
        assert sys.getswitchinterval() == pytest.approx(process.SWITCH_INTERVAL)
        assert gc.get_freeze_count() > 10_000
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()
