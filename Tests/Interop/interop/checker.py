"""Judges a dump of a stopped guest: no page is old, torn, empty or in the wrong place.

What proves it. Each filled page holds, as words of 32 bits: its counter, its address, a pattern
that follows from address and seed, and in its last word the counter again. Pages that are not hot
keep the counter 0. In a sweep from n to n + 1 the pages before the cursor hold n + 1, those behind
it n, and only the page under the cursor may have its first word ahead of its last. In random order
every step adds one to one page, so that the counters add up to the steps done.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .blocks import BlockImage
from .guest import (
    PAGE,
    PARAMETERS_MAGIC,
    PARAMETERS_OFFSET,
    PROGRAM,
    STATE,
    GuestParameters,
)

LIVE = 0x4556494C
COMPLAINTS_MAX = 10
"""Enough to see a pattern; a wholly wrong dump has a million."""

CHUNK = 1 << 20

Reader = Callable[[int, int], bytes]
"""Guest physical address and length to bytes; fewer at the end of a run."""


@dataclass
class Verdict:
    """What was found; good without complaints."""

    parameters: GuestParameters | None = None
    count: int = 0
    pages: int = 0
    complaints: list[str] = field(default_factory=list)
    complaint_count: int = 0

    @property
    def is_good(self) -> bool:
        return self.complaint_count == 0

    def complain(self, text: str) -> None:
        self.complaint_count += 1
        if len(self.complaints) < COMPLAINTS_MAX:
            self.complaints.append(text)

    def __str__(self) -> str:
        if self.is_good:
            return f"{self.pages} pages good after {self.count}"
        return f"{self.complaint_count} complaints: " + "; ".join(self.complaints)


def physical_memory(images: list[BlockImage]) -> Reader:
    """Blocks that follow each other from address 0 on."""
    starts: list[tuple[int, BlockImage]] = []
    end = 0
    for image in images:
        starts.append((end, image))
        end += image.block.length

    def read(address: int, length: int) -> bytes:
        for start, image in starts:
            if start <= address < start + image.block.length:
                return image.read(address - start, length)
        return b""

    return read


def check(read: Reader) -> Verdict:
    """Judges the memory of a stopped guest, which itself says with which parameters it runs."""
    verdict = Verdict()
    words = GuestParameters.word_count()
    header = _exactly(read, PROGRAM + PARAMETERS_OFFSET, 8 + 4 * words)
    if not header.startswith(PARAMETERS_MAGIC):
        verdict.complain("the guest's program is not there")
        return verdict
    try:
        parameters = GuestParameters.from_words(struct.unpack(f"<{words}I", header[8:]))
    except ValueError as error:
        verdict.complain(f"the guest's parameters: {error}")
        return verdict
    magic, count, cursor = struct.unpack("<3I", _exactly(read, STATE, 12))
    if magic != LIVE:
        verdict.complain("the guest had not filled its memory")
        return verdict
    verdict.parameters, verdict.count = parameters, count
    if cursor and not parameters.hot_start <= cursor < parameters.hot_end:
        verdict.complain(f"the cursor is at {cursor:#x}")
    hot = _check_contents(read, parameters, verdict)
    judge = _check_steps if parameters.random else _check_sweep
    judge(parameters, count, cursor, hot, verdict)
    return verdict


def _exactly(read: Reader, address: int, length: int) -> bytes:
    """As many bytes as asked for; zeros where there is no memory."""
    content = b""
    while len(content) < length:
        part = read(address + len(content), length - len(content))
        content += part or bytes(length - len(content))
    return content


def _pages(read: Reader, start: int, end: int) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    for chunk_start in range(start, end, CHUNK):
        chunk = _exactly(read, chunk_start, min(CHUNK, end - chunk_start))
        for offset in range(0, len(chunk), PAGE):
            head = struct.unpack_from("<3I", chunk, offset)
            last = struct.unpack_from("<I", chunk, offset + PAGE - 4)
            yield chunk_start + offset, head + last


def _check_contents(
    read: Reader, parameters: GuestParameters, verdict: Verdict
) -> dict[int, tuple[int, int]]:
    """Judges what never changes; gives both counters of each hot page."""
    hot: dict[int, tuple[int, int]] = {}
    for address, (first, own, pattern, last) in _pages(
        read, parameters.fill_start, parameters.fill_end
    ):
        verdict.pages += 1
        if own != address or pattern != parameters.pattern(address):
            verdict.complain(f"{address:#x} holds the content of {own:#x}")
        elif parameters.hot_start <= address < parameters.hot_end:
            hot[address] = (first, last)
        elif first or last:
            verdict.complain(f"{address:#x} was changed to {first} {last}")
    return hot


def _check_sweep(
    parameters: GuestParameters,
    count: int,
    cursor: int,
    hot: dict[int, tuple[int, int]],
    verdict: Verdict,
) -> None:
    old, new = (count, count), (count + 1, count + 1)
    # Between two sweeps the count may be one behind what all pages hold already.
    between = new if not cursor and hot and all(pair == new for pair in hot.values()) else old
    for address, pair in hot.items():
        if not cursor:
            allowed: tuple[tuple[int, int], ...] = (between,)
        elif address == cursor:
            allowed = (old, (count + 1, count), new)
        else:
            allowed = (new,) if address < cursor else (old,)
        if pair not in allowed:
            wanted = " or ".join(f"{first} {last}" for first, last in allowed)
            verdict.complain(f"{address:#x} holds {pair[0]} {pair[1]} instead of {wanted}")


def _check_steps(
    parameters: GuestParameters,
    count: int,
    cursor: int,
    hot: dict[int, tuple[int, int]],
    verdict: Verdict,
) -> None:
    for address, (first, last) in hot.items():
        is_under_way = address == cursor and first == (last + 1) & 0xFFFFFFFF
        if first != last and not is_under_way:
            verdict.complain(f"{address:#x} holds {first} and {last}")
    total = sum(first for first, _ in hot.values()) & 0xFFFFFFFF
    allowed = {count, (count + 1) & 0xFFFFFFFF} if cursor else {count}
    if total not in allowed:
        verdict.complain(f"the counters add up to {total} after {count} steps")


def main(paths: list[str]) -> int:
    """Judges raw files of the guest's RAM blocks, given in the order of their addresses."""
    if not paths:
        print("usage: python3 -m interop.checker FILE...", file=sys.stderr)
        return 2
    images = [BlockImage.of_file(Path(path)) for path in paths]
    verdict = check(physical_memory(images))
    print(verdict)
    return 0 if verdict.is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
