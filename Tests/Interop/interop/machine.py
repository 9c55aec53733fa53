"""A QEMU process: its command line, its monitor, its serial port, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    from qemu.qmp import EventListener, QMPClient, QMPError
except ImportError:
    sys.exit("the QMP client is missing: pip install -r Tests/Interop/requirements.txt")

from .child import QUIT_SECONDS, START_SECONDS, Child, note_exit, spawn
from .failure import Failure
from .guest import MEBIBYTE, PAGE, GuestImages

# Seconds. QEMU answers at once, unless it writes 2 GiB of memory to a disk.
ANSWER_SECONDS = 120

# The number of the system call, on x86-64.
_FUTEX = "202 "

# For the reader of a failure; the guest says a few lines a second.
SERIAL_LINES_KEPT = 20

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
    def ram_names(self) -> list[str]:
        """The blocks of the guest's memory, in the order of their addresses."""
        if not self.has_backends:
            return ["pc.ram"]
        return [f"m{index}" for index in range(len(self.memory))]

    @property
    def has_backends(self) -> bool:
        return len(self.memory) > 1 or self.memory[0].huge

    @property
    def huge_pages(self) -> int:
        """Pages of 2 MiB that one machine takes."""
        return sum(part.mebibytes // 2 for part in self.memory if part.huge)

    def arguments(self, images: GuestImages) -> list[str]:
        line = ["-machine", self.machine, "-accel", "tcg", "-smp", "1"]
        line += ["-nodefaults", "-no-user-config", "-display", "none"]
        line += ["-m", f"{self.length // 1024}K"]
        if self.has_backends:
            for index, part in enumerate(self.memory):
                kind = "ram" if not part.huge else "memfd,hugetlb=on,hugetlbsize=2M"
                size = f"{part.length // 1024}K"
                line += ["-object", f"memory-backend-{kind},id=m{index},size={size}"]
                line += ["-numa", f"node,memdev=m{index}"]
        if self.firmware:
            disk = f"if=none,id=disk,format=raw,readonly=on,file={images.disk}"
            line += ["-drive", disk, "-device", "virtio-blk-pci,drive=disk,bootindex=0"]
        else:
            line += ["-bios", str(images.firmware)]
        return line


@dataclass
class Machine(Child):
    """A running QEMU and all that it and its guest said."""

    monitor: QMPClient = field(kw_only=True)
    statuses: list[str] = field(default_factory=list)
    """The states of migration that QEMU announced, in order."""
    passes: int = 0
    """How often QEMU has collected dirty pages."""
    runs: bool = False
    """Whether QEMU announced that its processors were set going, after the start or RUN."""
    serial: deque[str] = field(default_factory=lambda: deque(maxlen=SERIAL_LINES_KEPT))
    serial_lines: int = 0
    count: int = -1
    """What the guest reported last: sweeps or steps done."""
    complaint: str | None = None
    """The guest's own line when it found a bad page."""

    @property
    def trouble(self) -> str | None:
        return self.complaint and f"the guest found a bad page: {self.complaint}"

    @property
    def told(self) -> str:
        states = " ".join(self.statuses) or "none"
        guest = self.serial[-1] if self.serial else "nothing"
        return f"states: {states}; the guest said: {guest}; QEMU {super().told}"

    async def ask(self, command: str, **arguments: Any) -> Any:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self.monitor.execute(command, arguments or None)
        except TimeoutError:
            raise Failure(f"{self.name}: no answer to {command}; {self.told}") from None
        except QMPError as error:
            raise Failure(f"{self.name}: {command}: {error}; {self.told}") from error

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

    async def until_announced(self, wanted: str, times: int, seconds: float) -> None:
        """Waits until QEMU has announced `wanted` so often: states come again in a recovery."""

        def is_over() -> bool:
            return self.statuses.count(wanted) >= times or "failed" in self.statuses

        await self.until(f"{wanted}, {times} times", seconds, is_over)
        if self.statuses.count(wanted) < times:
            raise Failure(f"{self.name}: the migration is failed; {self.told}")

    async def until_it_can_resume(self, seconds: float) -> None:
        """Waits until a source that has announced its pause has also let go of the return path.

        QEMU 7.2 announces first. Were it resumed before, the thread that reads the return path
        would close the new link as the old one, and the process may crash.
        """
        async with asyncio.timeout(seconds):
            while not self._waits_in_lock("return path"):
                await asyncio.sleep(0.005)

    def _waits_in_lock(self, thread: str) -> bool:
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                if (task / "comm").read_text().strip() == thread:
                    return (task / "syscall").read_text().startswith(_FUTEX)
        return True

    async def until_it_runs(self, seconds: float) -> None:
        await self.until("the guest's start", seconds, lambda: self.runs)

    async def until_reports(self, more: int, seconds: float) -> None:
        """Waits for `more` lines of a guest that finds its memory good."""
        goal = self.serial_lines + more
        await self.until(f"{more} more reports", seconds, lambda: self.serial_lines >= goal)

    async def ask_to_end(self) -> None:
        await self.monitor.execute("quit")

    def heard(self, line: str) -> None:
        self.serial.append(line)
        self.serial_lines += 1
        word, _, rest = line.partition(" ")
        if word in ("SWEEP", "STEP"):
            self.count = int(rest)
        elif word == "BAD":
            self.complaint = line

    def happened(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "MIGRATION":
                self.statuses.append(event["data"]["status"])
            case "MIGRATION_PASS":
                self.passes = event["data"]["pass"]
            case "RESUME":
                self.runs = True
            case "STOP":
                self.runs = False


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
    line = [qemu, "-name", f"{name},debug-threads=on", *shape.arguments(images)]
    line += ["-chardev", f"socket,id=monitor,path={monitor_path}"]
    line += ["-mon", "chardev=monitor,mode=control"]
    line += ["-chardev", f"socket,id=serial,path={serial_path}", "-serial", "chardev:serial"]
    if incoming:
        line += ["-incoming", "defer"]

    connected: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()
    monitor = QMPClient(name)
    log = folder / f"{name}.log"
    async with contextlib.AsyncExitStack() as ending:
        server = await asyncio.start_unix_server(
            lambda reader, _: connected.set_result(reader), serial_path
        )
        ending.callback(server.close)
        await monitor.start_server(str(monitor_path))
        ending.push_async_callback(_disconnect, monitor)
        with log.open("wb") as output:
            process = await spawn(line, output.fileno())
        machine = Machine(name, line, process, log, monitor=monitor)
        ending.push_async_callback(machine.end)
        exited = machine.start(note_exit(machine))
        await _unless_over(machine, exited, monitor.accept())
        serial = await _unless_over(machine, exited, connected)
        listener = EventListener(("MIGRATION", "MIGRATION_PASS", "RESUME", "STOP"))
        monitor.register_listener(listener)
        machine.start(_note_events(machine, listener))
        machine.start(_note_serial(machine, serial))
        yield machine


async def _unless_over(machine: Machine, exited: asyncio.Task[None], wanted: Any) -> Any:
    """What `wanted` brings, unless the process ends first."""
    task = asyncio.ensure_future(wanted)
    await asyncio.wait({task, exited}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        try:
            return task.result()
        except QMPError as error:
            raise Failure(f"{machine.name}: QEMU's monitor: {error}") from error
    task.cancel()
    raise Failure(f"{machine.name}: QEMU did not start: {machine.log.read_text().strip()}")


async def _disconnect(monitor: QMPClient) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(QUIT_SECONDS):
            await monitor.disconnect()


async def _note_events(machine: Machine, listener: EventListener) -> None:
    async for event in listener:
        await machine.note(functools.partial(machine.happened, dict(event)))


async def _note_serial(machine: Machine, serial: asyncio.StreamReader) -> None:
    while line := await serial.readline():
        text = line.decode("ascii", "replace").strip()
        await machine.note(functools.partial(machine.heard, text))
