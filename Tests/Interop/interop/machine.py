"""A QEMU process: its command line, its monitor, its serial port, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, QMPClient, QMPError

from .failure import Failure
from .guest import MEBIBYTE, PAGE, GuestImages

# Seconds. QEMU is up within one; a machine shared by several builds needs many times that.
START_SECONDS = 60
ANSWER_SECONDS = 60
QUIT_SECONDS = 20

# The client tells of every lost connection; here a QEMU that ends is told of by who waits for it.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class MemoryPart:
    """One RAM block of the guest, of 2 MiB pages if it is huge."""

    mebibytes: int
    huge: bool = False

    @property
    def length(self) -> int:
        """In bytes. A block of 4 KiB pages is a bit longer than its name says.

        QEMU before 9.0 loses writes of a TCG guest after the second time that it collects dirty
        pages of a block whose length is a multiple of 64 pages: it resets the dirty marks but not
        the processor's own note that it need not mark again. Other blocks take a slower way
        through, which does both.
        """
        return self.mebibytes * MEBIBYTE + (0 if self.huge else 2 * PAGE)


@dataclass(frozen=True)
class MachineShape:
    """What source and destination must have in common."""

    memory: tuple[MemoryPart, ...]
    machine: str = "pc"
    firmware: bool = True
    """Whether SeaBIOS starts the guest from a disk; otherwise the guest is the firmware."""

    @property
    def length(self) -> int:
        return sum(part.length for part in self.memory)

    @property
    def huge_pages(self) -> int:
        """Pages of 2 MiB that one machine takes."""
        return sum(part.mebibytes // 2 for part in self.memory if part.huge)

    def arguments(self, images: GuestImages) -> list[str]:
        line = ["-machine", self.machine, "-accel", "tcg", "-smp", "1"]
        line += ["-nodefaults", "-no-user-config", "-display", "none"]
        line += ["-m", f"{self.length // 1024}K"]
        if len(self.memory) > 1 or self.memory[0].huge:
            for index, part in enumerate(self.memory):
                kind = "ram" if not part.huge else "memfd,hugetlb=on,hugetlbsize=2M"
                line += ["-object", f"memory-backend-{kind},id=m{index},size={part.length // 1024}K"]
                line += ["-numa", f"node,memdev=m{index}"]
        if self.firmware:
            disk = f"if=none,id=disk,format=raw,readonly=on,file={images.disk}"
            line += ["-drive", disk, "-device", "virtio-blk-pci,drive=disk,bootindex=0"]
        else:
            line += ["-bios", str(images.firmware)]
        return line


@dataclass
class Machine:
    """A running QEMU and all that it said."""

    name: str
    process: asyncio.subprocess.Process
    monitor: QMPClient
    log: Path
    statuses: list[str] = field(default_factory=list)
    """The states of migration that QEMU announced, in order."""
    passes: int = 0
    runs: bool = False
    """Whether QEMU announced that its processors were set going, after the start or RUN."""
    serial: deque[str] = field(default_factory=lambda: deque(maxlen=1000))
    serial_lines: int = 0
    count: int = -1
    """What the guest reported last: sweeps or steps done."""
    complaint: str | None = None
    """The guest's own line when it found a bad page."""
    exit_status: int | None = None
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def ask(self, command: str, **arguments: Any) -> Any:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self.monitor.execute(command, arguments or None)
        except TimeoutError:
            raise Failure(f"{self.name}: no answer to {command}") from None
        except QMPError as error:
            raise Failure(f"{self.name}: {command}: {error}") from error

    async def until(self, what: str, seconds: float, holds: Callable[[], bool]) -> None:
        """Waits for `holds`, which is asked again whenever the guest or QEMU said something."""

        def is_over() -> bool:
            return holds() or self.complaint is not None or self.exit_status is not None

        try:
            async with asyncio.timeout(seconds), self.news:
                await self.news.wait_for(is_over)
        except TimeoutError:
            raise Failure(f"{self.name}: not within {seconds} s: {what}; {self.told}") from None
        if self.complaint is not None:
            raise Failure(f"{self.name}: the guest found a bad page: {self.complaint}")
        if not holds():
            raise Failure(f"{self.name}: QEMU ended with {self.exit_status} before {what}")

    async def until_status(self, *wanted: str, seconds: float) -> str:
        """Waits until QEMU has announced one of `wanted`, or that the migration failed."""
        awaited = {*wanted, "failed"}
        await self.until(
            " or ".join(wanted), seconds, lambda: not awaited.isdisjoint(self.statuses)
        )
        found = next(status for status in self.statuses if status in awaited)
        if found not in wanted:
            raise Failure(f"{self.name}: the migration is {found}; {self.told}")
        return found

    async def until_it_runs(self, seconds: float) -> None:
        await self.until("the guest's start", seconds, lambda: self.runs)

    async def until_count_grows(self, reports: int, seconds: float) -> None:
        """Waits for `reports` more lines of a guest that found its memory good."""
        goal = self.serial_lines + reports
        await self.until(f"{reports} more reports", seconds, lambda: self.serial_lines >= goal)

    @property
    def told(self) -> str:
        last = self.serial[-1] if self.serial else "nothing"
        return f"states {' '.join(self.statuses) or 'none'}, the guest said {last}"

    def heard(self, line: str) -> None:
        self.serial.append(line)
        self.serial_lines += 1
        word, _, rest = line.partition(" ")
        if word in ("SWEEP", "STEP"):
            self.count = int(rest)
        elif word == "BAD":
            self.complaint = line

    async def quit(self) -> None:
        """Ends the process, kindly if it answers."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(QUIT_SECONDS):
                await self.monitor.execute("quit")
        try:
            async with asyncio.timeout(QUIT_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@contextlib.asynccontextmanager
async def running(
    name: str,
    shape: MachineShape,
    images: GuestImages,
    folder: Path,
    *,
    incoming: bool = False,
    qemu: str = "qemu-system-x86_64",
) -> AsyncIterator[Machine]:
    """A QEMU that ends with the block, whatever happens in it."""
    monitor_path, serial_path = folder / f"{name}.qmp", folder / f"{name}.serial"
    line = [qemu, "-name", name, *shape.arguments(images)]
    line += ["-chardev", f"socket,id=monitor,path={monitor_path}", "-mon", "chardev=monitor,mode=control"]
    line += ["-chardev", f"socket,id=serial,path={serial_path}", "-serial", "chardev:serial"]
    if incoming:
        line += ["-incoming", "defer"]
    log = folder / f"{name}.log"

    connected: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()
    monitor = QMPClient(name)
    async with contextlib.AsyncExitStack() as ending:
        server = await asyncio.start_unix_server(
            lambda reader, _: connected.set_result(reader), serial_path
        )
        ending.callback(server.close)
        await monitor.start_server(str(monitor_path))
        ending.push_async_callback(_disconnect, monitor)
        with log.open("wb") as output:
            # The kernel ends QEMU should this program die without having done so.
            process = await asyncio.create_subprocess_exec(
                "setpriv", "--pdeathsig", "KILL", *line,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        machine = Machine(name, process, monitor, log)
        tasks = _Tasks()
        ending.push_async_callback(tasks.end)
        ending.push_async_callback(machine.quit)
        exited = tasks.start(_note_exit(machine))
        await _first_of(machine, exited, monitor.accept())
        serial = await _first_of(machine, exited, connected)
        listener = EventListener(("MIGRATION", "MIGRATION_PASS", "RESUME", "STOP"))
        monitor.register_listener(listener)
        tasks.start(_note_events(machine, listener))
        tasks.start(_note_serial(machine, serial))
        yield machine


class _Tasks:
    """Tasks that end together."""

    def __init__(self) -> None:
        self._all: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._all.append(task)
        return task

    async def end(self) -> None:
        for task in self._all:
            task.cancel()
        await asyncio.gather(*self._all, return_exceptions=True)


async def _first_of(machine: Machine, exit_task: asyncio.Task[None], wanted: Any) -> Any:
    """What `wanted` brings, unless the process ends first."""
    task = asyncio.ensure_future(wanted)
    await asyncio.wait(
        {task, exit_task}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
    )
    if task.done():
        return task.result()
    task.cancel()
    raise Failure(f"{machine.name}: QEMU did not start: {machine.log.read_text().strip()}")


async def _disconnect(monitor: QMPClient) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(QUIT_SECONDS):
            await monitor.disconnect()


async def _note_exit(machine: Machine) -> None:
    status = await machine.process.wait()
    async with machine.news:
        machine.exit_status = status
        machine.news.notify_all()


async def _note_events(machine: Machine, listener: EventListener) -> None:
    async for event in listener:
        async with machine.news:
            match event["event"]:
                case "MIGRATION":
                    machine.statuses.append(event["data"]["status"])
                case "MIGRATION_PASS":
                    machine.passes = event["data"]["pass"]
                case "RESUME":
                    machine.runs = True
                case "STOP":
                    machine.runs = False
            machine.news.notify_all()


async def _note_serial(machine: Machine, serial: asyncio.StreamReader) -> None:
    while line := await serial.readline():
        async with machine.news:
            machine.heard(line.decode("ascii", "replace").strip())
            machine.news.notify_all()
