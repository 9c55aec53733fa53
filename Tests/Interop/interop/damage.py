"""Spoils pages of a guest, to see whether that is found."""

from __future__ import annotations

import struct

from .blocks import overwrite, read_memory
from .guest import PAGE, STATE, GuestParameters
from .machine import Machine

KINDS = ("old", "torn", "empty", "misplaced", "cold-and-changed")


async def spoil(machine: Machine, guest: GuestParameters, kind: str) -> None:
    """Spoils one page of the stopped guest, as a migration that is wrong would."""
    (cursor,) = struct.unpack("<I", await read_memory(machine, STATE + 8, 4))
    # Not the page that is being changed, of which each half may be ahead of the other.
    hot = guest.hot_start + (0 if cursor != guest.hot_start else PAGE)
    (counter,) = struct.unpack("<I", await read_memory(machine, hot, 4))
    before = struct.pack("<I", (counter - 1) & 0xFFFFFFFF)
    match kind:
        case "old":
            await overwrite(machine, hot, before)
            await overwrite(machine, hot + PAGE - 4, before)
        case "torn":
            await overwrite(machine, hot + PAGE - 4, before)
        case "empty":
            await overwrite(machine, hot, bytes(PAGE))
        case "misplaced":
            await overwrite(machine, hot, await read_memory(machine, hot + 2 * PAGE, PAGE))
        case "cold-and-changed":
            await overwrite(machine, guest.fill_start, struct.pack("<I", 1))
        case _:
            raise ValueError(kind)
