"""What a scenario works with: a guest of its own, programs that end with it, and a folder."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from .blocks import BlockImage, dump_blocks
from .checker import Verdict, check, physical_memory
from .child import START_SECONDS, Child, spawn
from .command import Command, running_command
from .failure import Failure
from .guest import FIRMWARE_TOP_BYTES, MEBIBYTE, PAGE, GuestImages, GuestParameters, assemble
from .hugepages import reserved_huge_pages
from .machine import Machine, MachineShape, MemoryPart, running
from .migration import Terms

# Seconds until a guest of 2 GiB has booted and filled its memory, on a machine with other work.
FILL_SECONDS = 180

# Pages changed from one report of the guest to the next: some reports a second. Pages in random
# order take four times as long.
PAGES_PER_REPORT = 1 << 21
RANDOM_PAGES_PER_REPORT = 1 << 19

# Lines that a guest says before it is moved: that memory is filled, and two reports.
REPORTS_BEFORE = 3

LOG_LINES_SHOWN = 30

# A source, ours, and a destination.
MACHINES_AT_ONCE = 3

LAYOUTS = ("plain", "several", "huge")

# How a link ends: reset on its way, by QEMU's migrate-pause, or by `postcopy pause`.
BREAKS = ("cut", "qemu", "ours")


@dataclass(frozen=True)
class Tools:
    qemu: str
    postcopy: Path | None


@dataclass(frozen=True)
class Variant:
    """What one run of a scenario differs in from the next."""

    preempt: bool = False
    mebibytes: int = 256
    switch_after: float = 0.1
    machine: str = "pc"
    layout: str = "plain"
    precopy: bool = False
    random: bool = False
    touch_threads: int = 2
    hold: bool = False
    paced: bool = True
    """Whether a QEMU that hands its guest to us takes its time, so that pages are surely missed."""
    damage: str | None = None
    """What is done to a page, where that is the scenario."""
    breaks: tuple[str, ...] = ()
    """How the link ends each time, where that is the scenario."""

    def __post_init__(self) -> None:
        if self.layout == "huge" and self.precopy:
            raise ValueError(
                "QEMU before 9.0 loses writes of a TCG guest to huge pages in the second pass over "
                "memory: a guest in huge pages cannot go by precopy alone"
            )

    def __str__(self) -> str:
        words = [f"{self.mebibytes} MiB", self.machine]
        words += [self.layout] if self.layout != "plain" else []
        words += ["random"] if self.random else []
        if self.damage:
            return ", ".join([*words, self.damage])
        words += ["hold"] if self.hold else []
        words += ["+".join(self.breaks)] if self.breaks else []
        if self.precopy:
            return ", ".join([*words, "precopy"])
        words += [f"preempt {'on' if self.preempt else 'off'}"]
        return ", ".join([*words, f"switched after {self.switch_after:g} s"])

    @property
    def shape(self) -> MachineShape:
        half = self.mebibytes // 2
        parts: tuple[MemoryPart, ...] = (MemoryPart(self.mebibytes),)
        if self.layout == "several":
            parts = (MemoryPart(half), MemoryPart(half))
        elif self.layout == "huge":
            parts = (MemoryPart(half, huge=True), MemoryPart(half))
        return MachineShape(parts, machine=self.machine)

    @property
    def terms(self) -> Terms:
        """A downtime in ms that the guest's writes never fit into, so that only we end precopy.

        Without a switch it must be one that they do fit into: a quarter of memory is sent anew.
        """
        parameters = {"downtime-limit": 2000 if self.precopy else 1}
        if self.layout == "huge" and not self.precopy:
            # The switch must come within the first pass over memory, see `MemoryPart.length`.
            seconds = 4 * max(1.0, self.switch_after)
            parameters["max-bandwidth"] = int(self.shape.length / seconds)
        return Terms(
            preempt=self.preempt and not self.precopy,
            parameters=parameters,
        )

    def guest(self, seed: int) -> GuestParameters:
        """A quarter of memory is hot, around the border between the blocks."""
        length = self.shape.length
        middle, eighth = length // 2 // PAGE * PAGE, length // 8 // PAGE * PAGE
        every = RANDOM_PAGES_PER_REPORT if self.random else PAGES_PER_REPORT * PAGE // (2 * eighth)
        return GuestParameters(
            fill_start=2 * MEBIBYTE,
            fill_end=(length - FIRMWARE_TOP_BYTES) // PAGE * PAGE,
            hot_start=middle - eighth,
            hot_end=middle + eighth,
            random=int(self.random),
            seed=seed,
            report_every=max(1, every),
        )


@dataclass
class Scene:
    """One run. Everything started here has ended when the run has."""

    variant: Variant
    tools: Tools
    folder: Path
    guest: GuestParameters
    images: GuestImages
    children: list[Child] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def source(self) -> AsyncIterator[Machine]:
        """A guest at work."""
        async with self._machine("source", incoming=False) as machine:
            await self.variant.terms.set_at_source(machine)
            await machine.until_reports(REPORTS_BEFORE, FILL_SECONDS)
            yield machine

    @contextlib.asynccontextmanager
    async def destination(self) -> AsyncIterator[Machine]:
        """A QEMU that waits for a guest."""
        async with self._machine("destination", incoming=True) as machine:
            await self.variant.terms.set_at_destination(machine)
            yield machine

    @contextlib.asynccontextmanager
    async def postcopy(self, name: str, *arguments: str) -> AsyncIterator[Command]:
        """Our own command, with a report."""
        if self.tools.postcopy is None:
            raise Failure("no postcopy: build it, or say where it is with --postcopy or POSTCOPY")
        async with running_command(
            self.tools.postcopy, name, list(arguments), self.folder
        ) as command:
            self.children.append(command)
            yield command

    def control(self, name: str) -> list[str]:
        """Where the command that is called `name` here is told to be steered."""
        return ["--control", str(self.folder / f"{name}.sock")]

    async def steer(self, name: str, *arguments: str) -> str:
        """Tells a running command of ours to do or to say something, which it does at once."""
        line = [str(self.tools.postcopy), *arguments, *self.control(name)]
        process = await spawn(line, asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(START_SECONDS):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise Failure(f"postcopy {' '.join(arguments)}: {output.decode().strip()}")
        return output.decode()

    @contextlib.asynccontextmanager
    async def _machine(self, name: str, *, incoming: bool) -> AsyncIterator[Machine]:
        async with running(
            name,
            self.variant.shape,
            self.images,
            self.folder,
            incoming=incoming,
            qemu=self.tools.qemu,
        ) as machine:
            self.children.append(machine)
            yield machine

    async def judge(self, machine: Machine) -> Verdict:
        """Stops the guest and judges its memory from outside."""
        await machine.ask("stop")
        images = await dump_blocks(machine, self.folder / f"{machine.name}-memory")
        return self.judge_images(machine.name, images)

    def judge_images(self, whose: str, images: dict[str, BlockImage]) -> Verdict:
        names = self.variant.shape.ram_names
        if missing := set(names) - set(images):
            raise Failure(f"{whose}: no block {' '.join(sorted(missing))}")
        verdict = check(physical_memory([images[name] for name in names]))
        if not verdict.is_good:
            raise Failure(f"{whose}: {verdict}")
        return verdict

    def logs(self) -> str:
        """What the programs of a failed run said, for its reader."""
        told = [f"guest's seed {self.guest.seed:#x}"]
        for child in self.children:
            told += [f"--- {child.name}: {child.told}", " ".join(child.line)]
            told += child.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join(told)


@contextlib.asynccontextmanager
async def scene(variant: Variant, tools: Tools) -> AsyncIterator[Scene]:
    """A folder, a guest's images, and huge pages for three machines where they are asked for."""
    with (
        tempfile.TemporaryDirectory(prefix="interop-") as path,
        reserved_huge_pages(MACHINES_AT_ONCE * variant.shape.huge_pages),
    ):
        folder = Path(path)
        guest = variant.guest(secrets.randbits(32))
        yield Scene(variant, tools, folder, guest, assemble(guest, folder))
