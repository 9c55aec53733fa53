"""The command `postcopy` as a child."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .child import START_SECONDS, Child, note_exit, spawn
from .failure import Failure

_ANNOUNCEMENT = re.compile(r"listening on (tcp:\S+)")


@dataclass
class Command(Child):
    """A running `postcopy`, whose lines are read as they come."""

    report_path: Path = field(kw_only=True)
    lines: list[str] = field(default_factory=list)

    async def listening_uri(self) -> str:
        """Where it listens, which it says once it does."""
        await self.until("it listens", START_SECONDS, lambda: self._announced is not None)
        assert self._announced is not None
        return self._announced

    @property
    def _announced(self) -> str | None:
        found = (_ANNOUNCEMENT.search(line) for line in self.lines)
        return next((match[1] for match in found if match), None)

    async def succeed(self, seconds: float) -> dict[str, Any]:
        """Waits for its end, which must be good, and gives its report."""
        status = await self.until_exit(seconds)
        if status != 0:
            raise Failure(f"{self.name}: ended with {status}; {self.told}")
        try:
            report: dict[str, Any] = json.loads(self.report_path.read_text())
        except (OSError, ValueError) as error:
            raise Failure(f"{self.name}: its report: {error}") from error
        return report


@contextlib.asynccontextmanager
async def running_command(
    binary: Path, name: str, arguments: list[str], folder: Path
) -> AsyncIterator[Command]:
    """A `postcopy` that ends with the block, whatever happens in it."""
    report, log = folder / f"{name}.json", folder / f"{name}.log"
    log.touch()
    line = [str(binary), *arguments, "--json", str(report)]
    process = await spawn(line, asyncio.subprocess.PIPE)
    command = Command(name, line, process, log, report_path=report)
    try:
        # Its end is noted when its last line was read, so that who waits for either sees both.
        command.start(_note_lines(command))
        yield command
    finally:
        await command.end()


async def _note_lines(command: Command) -> None:
    assert command.process.stdout is not None
    with command.log.open("ab", buffering=0) as log:
        while line := await command.process.stdout.readline():
            log.write(line)
            text = line.decode("utf-8", "replace").rstrip()
            await command.note(functools.partial(command.lines.append, text))
    await note_exit(command)
