"""Test that a job leaves the database to the session of its worker."""

import pytest

from pubsubcache.models import Job, PubsubItem, PubsubNode
from pubsubcache.store import in_thread, jobs
from tests.acceptance.site import Site, entry, make_node, publish_many

ITEMS = 200


@pytest.mark.both_databases
async def test_notifications_are_stored_while_a_job_purges_a_node(
    prosody, live_database: None, client, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = [0.2]
    monkeypatch.setattr("pubsubcache.store.batches.MAX_ROWS", 5)
    monkeypatch.setattr("pubsubcache.store.evicting.CHUNK", 5)
    monkeypatch.setattr(jobs, "pause_after", lambda seconds: pauses[0])
    site = Site(prosody)
    await site.add_account()
    bob = await client(prosody)
    large, small = await make_node(bob, prosody), await make_node(bob, prosody)
    await publish_many(bob, large, ITEMS)
    await publish_many(bob, small, 2)
    async with site.working():
        await site.cached(large)
        await site.cached(small)
        before = await site.account()
        node = await PubsubNode.objects.aget(name=large.name)
        job = await in_thread(jobs.request)("purge", {"nodes": [node.pk]})

        async def is_running() -> bool:
            await job.arefresh_from_db()
            return job.state == "running" and 0 < job.done < ITEMS

        await site.until(is_running)
        for number in range(3):
            await bob.publish(small, entry("New"), f"new-{number}")
            await site.converged(small)
            await bob.publish(large, entry("New"), f"new-{number}")
        assert await is_running()
        assert (await site.names(small))[-3:] == ["new-0", "new-1", "new-2"]
        pauses[0] = 0.0

        async def is_done() -> bool:
            await job.arefresh_from_db()
            return job.state == "done"

        await site.until(is_done)

        async def new_ones() -> bool:
            return await site.names(large) == ["new-0", "new-1", "new-2"]

        await site.until(new_ones)
        page = await site.read(large)
        assert [item.id for item in page.items] == [f"item-{n}" for n in range(ITEMS)] + ["new-0", "new-1", "new-2"]
        after = await site.account()
    assert await Job.objects.aget() == job
    assert await PubsubItem.objects.filter(node__name=small.name).acount() == 5
    assert (after.session_started, after.fencing_token, after.worker, after.status) == (
        before.session_started,
        before.fencing_token,
        before.worker,
        "online",
    )
