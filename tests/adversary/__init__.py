"""Attacks on the cache with real servers and, where it matters, real worker processes.

The building blocks:

- `component.HostileService`: a pubsub service that can give any answer (an external component, XEP-0114);
- `stranger.Stranger`: an account that sends any XML to others;
- `tests.servers.proxy.Proxy`: cuts, delays or holds a connection;
- `process`: pauses, resumes, kills and measures worker processes;
- `clock.Clock`: sets the wall clock of a process;
- `Certificates.issue` and `XmppServer.present_certificate`: other certificates, for example expired ones.

A new attack takes ten lines:

    async def test_service_that_lies_about_its_count(site: Site, hostile: MakeHostile) -> None:
        evil = await hostile(site.server)
        address = evil.add_node("blog", 3)

        def lie(request: Request) -> str:
            return evil.items_answer(request.node, evil.nodes["blog"], rsm=(None, None, 10**15))

        evil.answers["get_items"] = lie
        assert len((await site.read(address)).items) == 3

`site` is an account on the server with a worker in the test process; `worker` starts others in their own processes.
See `conftest.py` for the fixtures.
"""
