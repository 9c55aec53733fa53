"""The RAM blocks of a QEMU: which there are, and what is in them."""

from __future__ import annotations

import contextlib
import mmap
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any, Literal

from .failure import Failure
from .machine import Machine

_BLOCK = re.compile(r"^\s*(\S+)\s+(\d+) ([KMG])iB\s+0x\w+\s+0x(\w+)\s+0x\w+", re.MULTILINE)
_MAPPED = re.compile(
    r"^ +(\w{16})-(\w{16}) \(prio -?\d+, \w+\): (\S+)(?: @(\w{16}))?", re.MULTILINE
)
_HOST_ADDRESS = re.compile(r"is (0x\w+)")


@dataclass(frozen=True)
class Block:
    name: str
    length: int
    page_size: int

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "lengthBytes": self.length, "pageBytes": self.page_size}


async def list_blocks(machine: Machine) -> list[Block]:
    """All blocks, in the order in which a stream lists them."""
    text = (await machine.ask("x-query-ramblock"))["human-readable-text"]
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    blocks = [
        Block(name, int(used, 16), int(size) * scale[unit])
        for name, size, unit, used in _BLOCK.findall(text)
    ]
    if not blocks:
        raise Failure(f"{machine.name}: no RAM blocks in {text!r}")
    return blocks


class BlockImage:
    """The content of one block, in files: each holds a run of it."""

    def __init__(self, block: Block, runs: list[tuple[int, Path]]) -> None:
        self.block = block
        self._starts: list[int] = []
        self._maps: list[mmap.mmap] = []
        for start, path in sorted(runs):
            if start != self._end:
                raise Failure(f"{block.name}: nothing is known from {self._end:#x} to {start:#x}")
            with path.open("rb") as file:
                self._maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self._starts.append(start)
        if self._end != block.length:
            raise Failure(f"{block.name}: {self._end:#x} bytes instead of {block.length:#x}")

    @classmethod
    def of_file(cls, path: Path) -> BlockImage:
        """A block that a file holds alone."""
        return cls(Block(path.name, path.stat().st_size, 4096), [(0, path)])

    @property
    def _end(self) -> int:
        return sum(len(each) for each in self._maps)

    def read(self, offset: int, length: int) -> bytes:
        """What stands at `offset`; shorter where a run ends."""
        index = bisect_right(self._starts, offset) - 1
        begin = offset - self._starts[index]
        return self._maps[index][begin : begin + length]

    def chunks(self, size: int = 1 << 20) -> Iterator[tuple[int, bytes]]:
        offset = 0
        while offset < self.block.length:
            chunk = self.read(offset, size)
            yield offset, chunk
            offset += len(chunk)

    def digest(self) -> str:
        whole = sha256()
        for _, chunk in self.chunks():
            whole.update(chunk)
        return whole.hexdigest()

    def differing_pages(self, other: BlockImage, page: int = 4096) -> list[int]:
        """The offsets of the pages in which two images of a block differ."""
        found: list[int] = []
        for offset, mine in self.chunks():
            theirs = b""
            while len(theirs) < len(mine):
                theirs += other.read(offset + len(theirs), len(mine) - len(theirs))
            if mine != theirs:
                found += [
                    offset + at
                    for at in range(0, len(mine), page)
                    if mine[at : at + page] != theirs[at : at + page]
                ]
        return found


@dataclass(frozen=True)
class _Run:
    """A part of a block and where the guest sees it; not at all: None."""

    offset: int
    length: int
    physical: int | None


async def dump_blocks(machine: Machine, folder: Path) -> dict[str, BlockImage]:
    """Writes every block that the guest can address, wholly, and says what is in it.

    QEMU writes what the guest sees. Where firmware hides memory (below 1 MiB) the bytes are taken
    from the process. Blocks that the guest cannot address at all are left out: those that begin
    with `/rom@` are only copied from, by the device that hands files to firmware.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen = await _seen_runs(machine)
    images: dict[str, BlockImage] = {}
    for number, block in enumerate(await list_blocks(machine)):
        if block.name not in seen:
            continue
        first = seen[block.name][0]
        assert first.physical is not None
        base = await _host_address(machine, first.physical) - first.offset
        files: list[tuple[int, Path]] = []
        for run in _whole(block, seen[block.name]):
            path = folder / f"{number}-{run.offset:x}"
            if run.physical is None:
                path.write_bytes(_read_process(machine, base + run.offset, run.length))
            else:
                await machine.ask(
                    "pmemsave", val=run.physical, size=run.length, filename=str(path)
                )
            files.append((run.offset, path))
        images[block.name] = BlockImage(block, files)
    return images


async def _seen_runs(machine: Machine) -> dict[str, list[_Run]]:
    """What the guest sees of each block, from the memory's map as QEMU renders it."""
    text: str = await machine.ask(
        "human-monitor-command", **{"command-line": "info mtree -f"}
    )
    views = text.replace("\r", "").split("FlatView #")
    view = next((each for each in views if 'AS "memory"' in each), None)
    if view is None:
        raise Failure(f"{machine.name}: no map of the memory in {text[:200]!r}")
    seen: dict[str, list[_Run]] = {}
    for begin, last, name, offset in _MAPPED.findall(view):
        physical = int(begin, 16)
        run = _Run(int(offset or "0", 16), int(last, 16) - physical + 1, physical)
        seen.setdefault(name, []).append(run)
    return seen


def _whole(block: Block, seen: list[_Run]) -> list[_Run]:
    """The block from begin to end, without overlaps: a block may be seen in several places."""
    runs: list[_Run] = []
    end = 0
    for run in sorted(seen, key=lambda each: each.offset):
        assert run.physical is not None
        if run.offset > end:
            runs.append(_Run(end, run.offset - end, None))
            end = run.offset
        known = end - run.offset
        length = min(run.length, block.length - run.offset) - known
        if length > 0:
            runs.append(_Run(end, length, run.physical + known))
            end += length
    if end < block.length:
        runs.append(_Run(end, block.length - end, None))
    return runs


async def _host_address(machine: Machine, physical: int) -> int:
    text: str = await machine.ask(
        "human-monitor-command", **{"command-line": f"gpa2hva {physical:#x}"}
    )
    found = _HOST_ADDRESS.search(text)
    if found is None:
        raise Failure(f"{machine.name}: {text.strip()}")
    return int(found[1], 16)


async def read_memory(machine: Machine, physical: int, length: int) -> bytes:
    """Reads memory that lies in one block."""
    return _read_process(machine, await _host_address(machine, physical), length)


async def overwrite(machine: Machine, physical: int, content: bytes) -> None:
    """Changes memory in one block behind the guest's back."""
    address = await _host_address(machine, physical)
    with _memory_of(machine, "r+b") as memory:
        memory.seek(address)
        memory.write(content)


def _read_process(machine: Machine, address: int, length: int) -> bytes:
    with _memory_of(machine, "rb") as memory:
        memory.seek(address)
        content = memory.read(length)
    if len(content) != length:
        raise Failure(f"{machine.name}: {len(content)} of {length} bytes of its memory")
    return content


@contextlib.contextmanager
def _memory_of(machine: Machine, mode: Literal["rb", "r+b"]) -> Iterator[FileIO]:
    try:
        with open(f"/proc/{machine.process.pid}/mem", mode, buffering=0) as memory:
            yield memory
    except OSError as error:
        raise Failure(f"{machine.name}: its memory: {error.strerror}: run as root") from error
