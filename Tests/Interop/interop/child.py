"""A program that is started, listened to, and ended with the block that started it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .failure import Failure

# Seconds. Programs here are up within one; a machine with other work needs many times that.
START_SECONDS = 60
QUIT_SECONDS = 10


@dataclass
class Child:
    """A running program and what became of it."""

    name: str
    line: list[str]
    """How it was started."""
    process: asyncio.subprocess.Process
    log: Path
    exit_status: int | None = None
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    """Notified of whatever is heard from the program."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def trouble(self) -> str | None:
        """Why there is nothing left to wait for, although the program lives."""
        return None

    @property
    def told(self) -> str:
        """What was heard last, in a few words."""
        lines = self.log.read_text(errors="replace").splitlines()
        return f"said last: {lines[-1]}" if lines else "said nothing"

    async def until(self, what: str, seconds: float, holds: Callable[[], bool]) -> None:
        """Waits for `holds`, which is asked again with all news."""

        def is_over() -> bool:
            return holds() or self.trouble is not None or self.exit_status is not None

        try:
            async with asyncio.timeout(seconds), self.news:
                await self.news.wait_for(is_over)
        except TimeoutError:
            raise Failure(f"{self.name}: not within {seconds:g} s: {what}; {self.told}") from None
        if self.trouble is not None:
            raise Failure(f"{self.name}: {self.trouble}")
        if not holds():
            raise Failure(f"{self.name}: ended with {self.exit_status} before {what}; {self.told}")

    async def until_exit(self, seconds: float) -> int:
        await self.until("its end", seconds, lambda: self.exit_status is not None)
        assert self.exit_status is not None
        return self.exit_status

    async def note(self, change: Callable[[], None]) -> None:
        async with self.news:
            change()
            self.news.notify_all()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs `work` beside all else, until the program's end at the latest."""
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    async def ask_to_end(self) -> None:
        self.process.terminate()

    async def end(self) -> None:
        """Ends the program, kindly at first."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(QUIT_SECONDS):
                if self.process.returncode is None:
                    await self.ask_to_end()
                await self.process.wait()
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def spawn(line: list[str], output: int) -> asyncio.subprocess.Process:
    """Starts a program that writes to `output`; the kernel ends it should this one be killed."""
    try:
        return await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "KILL", "--", *line,
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
    except FileNotFoundError:
        raise Failure("setpriv is missing: install the package util-linux") from None


async def note_exit(child: Child) -> None:
    """Notes the end of `child`, whoever waits for something else of it."""
    status = await child.process.wait()
    await child.note(lambda: setattr(child, "exit_status", status))
