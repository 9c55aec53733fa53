"""The RAM blocks of a QEMU: which there are, and what is in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .failure import Failure
from .machine import Machine

_BLOCK = re.compile(r"^\s*(\S+)\s+(\d+) ([KMG])iB\s+0x\w+\s+0x(\w+)\s+0x\w+", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    name: str
    length: int
    page_size: int

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "lengthBytes": self.length, "pageBytes": self.page_size}


async def list_blocks(machine: Machine) -> list[Block]:
    """All blocks in the order of the stream's list, which is that of their greatest lengths."""
    text = (await machine.ask("x-query-ramblock"))["human-readable-text"]
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    blocks = [
        Block(name, int(used, 16), int(size) * scale[unit])
        for name, size, unit, used in _BLOCK.findall(text)
    ]
    if not blocks:
        raise Failure(f"{machine.name}: no RAM blocks in {text!r}")
    return blocks
