"""A TCP proxy that keeps what passes, paces it, or cuts it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

CHUNK_BYTES = 1 << 16

# Seconds to reach the other side, which listens already.
CONNECT_SECONDS = 20

# Has the kernel forget what is unsent and reset the connection when it is closed.
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Channel:
    """One connection through the proxy, with the bytes of both directions."""

    forward: bytearray = field(default_factory=bytearray)
    backward: bytearray = field(default_factory=bytearray)
    is_over: bool = False
    writers: list[asyncio.StreamWriter] = field(default_factory=list)


class Proxy:
    """Hands every connection on to `target`, in the order of their arrival.

    The order matters: to QEMU up to 9.0 the first connection is the main channel. A pace holds for
    each connection's forward direction by itself.
    """

    def __init__(
        self, target: tuple[str, int], *, keeps: bool = False, bytes_per_second: int | None = None
    ) -> None:
        self.target = target
        self.channels: list[Channel] = []
        self.port = 0
        self.forwarded_bytes = 0
        """Of all connections together."""
        self._keeps = keeps
        self._pace = bytes_per_second
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Condition()

    @property
    def uri(self) -> str:
        return f"tcp:127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Resets every connection at once."""
        for channel in self.channels:
            for writer in channel.writers:
                if not writer.transport.is_closing():
                    end = writer.get_extra_info("socket")
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()

    async def until_over(self, seconds: float) -> None:
        """Waits until every connection has ended, so that what was kept is complete."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: all(channel.is_over for channel in self.channels))

    async def until_forwarded(self, byte_count: int, seconds: float) -> None:
        """Waits until the first connection has carried `byte_count` bytes."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(
                lambda: bool(self.channels) and len(self.channels[0].forward) >= byte_count
            )

    async def until_more(self, byte_count: int, seconds: float) -> None:
        """Waits until all connections together have carried `byte_count` bytes from now on."""
        goal = self.forwarded_bytes + byte_count
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: self.forwarded_bytes >= goal)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(writers=[writer])
        try:
            async with self._turn, asyncio.timeout(CONNECT_SECONDS):
                far_reader, far_writer = await asyncio.open_connection(*self.target)
                channel.writers.append(far_writer)
                self.channels.append(channel)
            await asyncio.gather(
                self._pump(reader, far_writer, channel.forward, self._pace, counts=True),
                self._pump(far_reader, writer, channel.backward, None, counts=False),
            )
            for each in channel.writers:
                each.close()
                await each.wait_closed()
        except (OSError, TimeoutError):
            pass  # Either end sees its connection end, and reports it.
        finally:
            for each in channel.writers:
                each.transport.abort()
            async with self._news:
                channel.is_over = True
                self._news.notify_all()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        kept: bytearray,
        pace: int | None,
        *,
        counts: bool,
    ) -> None:
        # A paced pump takes a tenth of a second's bytes at a time, so that it is smooth.
        chunk = CHUNK_BYTES if pace is None else max(1, min(CHUNK_BYTES, pace // 10))
        while data := await reader.read(chunk):
            if self._keeps:
                kept += data
            writer.write(data)
            await writer.drain()
            async with self._news:
                self.forwarded_bytes += len(data) if counts else 0
                self._news.notify_all()
            if pace is not None:
                await asyncio.sleep(len(data) / pace)
        with contextlib.suppress(OSError):
            writer.write_eof()
