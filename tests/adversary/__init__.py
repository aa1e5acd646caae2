"""Attacks on the cache, each on real servers and, where it matters, real worker processes.

The parts:

- `component.HostileService`: a pubsub service whose every answer can be a lie (an external component, XEP-0114);
- `stranger.Stranger`: an account that sends any XML to others;
- `tests.servers.proxy.Proxy`: cuts, delays or holds a connection;
- `process`: workers as processes, which can be stopped, continued, killed and measured;
- `clock.Clock`: the wall clock that a process sees;
- `Certificates.issue` and `XmppServer.present_certificate`: other certificates, expired ones among them.

The next attack is ten lines:

    async def test_service_that_lies_about_its_count(site: Site, hostile: MakeHostile) -> None:
        evil = await hostile(site.server)
        address = evil.add_node("blog", 3)

        def lie(request: Request) -> str:
            return evil.items_answer(request.node, evil.nodes["blog"], rsm=(None, None, 10**15))

        evil.answers["get_items"] = lie
        assert len((await site.read(address)).items) == 3

`site` is an account of the server's with a worker in the test's process, `workers` starts others as processes. See
`conftest.py` for the fixtures.
"""
