"""A TCP proxy that breaks connections to a server at moments that are otherwise rare."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self

CHUNK = 65536


class Proxy:
    """Forwards connections to `host`:`port`; an asynchronous context manager.

    It listens on `port`: `listen`, or a free port. `accepted` counts the connections so far.

    - `delay`: seconds by which each piece of the server's answers is delayed.
    - `piece`: the maximum size in bytes of these pieces.
    - `budget`: the number of bytes after which all connections break, even inside a stanza.
    - `refusing`: refuse new connections.
    - `holding`: keep connections open but forward nothing, like a network that drops packets; held data is forwarded
      when it ends.
    """

    def __init__(self, host: str, port: int, *, listen: int = 0) -> None:
        self.target = (host, port)
        self.port = listen
        self.accepted = 0
        self.delay = 0.0
        self.piece = CHUNK
        self.budget: int | None = None
        self.refusing = False
        self.passed = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._writers) // 2

    @property
    def holding(self) -> bool:
        """Whether data is held back."""
        return not self._flowing.is_set()

    @holding.setter
    def holding(self, holding: bool) -> None:
        (self._flowing.clear if holding else self._flowing.set)()

    def cut(self) -> None:
        """Break all connections at once, without closing them properly."""
        while self._writers:
            self._writers.pop().transport.abort()

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Break all connections, and refuse new ones inside the block."""
        self.refusing = True
        self.cut()
        try:
            yield
        finally:
            self.refusing = False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refusing:
            writer.transport.abort()
            return
        try:
            remote_reader, remote_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, remote_writer}
        pipes = [
            asyncio.create_task(self._pipe(reader, remote_writer, is_answer=False)),
            asyncio.create_task(self._pipe(remote_reader, writer, is_answer=True)),
        ]
        self._tasks.update(pipes)
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for task in pipes:
            task.cancel()
        for end in (writer, remote_writer):
            self._writers.discard(end)
            end.close()
        self._tasks.difference_update(pipes)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                if not is_answer:
                    writer.write(data)
                    await writer.drain()
                    continue
                for start in range(0, len(data), self.piece):
                    await self._answer(data[start : start + self.piece], writer)

    async def _answer(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.budget is not None and self.budget <= len(data):
            writer.write(data[: self.budget])
            self.budget = None
            with suppress(OSError):
                await writer.drain()
            self.cut()
            raise ConnectionResetError
        if self.budget is not None:
            self.budget -= len(data)
        self.passed += len(data)
        writer.write(data)
        await writer.drain()
