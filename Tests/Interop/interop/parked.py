"""A machine that `postcopy` has parked in a folder."""

from __future__ import annotations

import json
from pathlib import Path

from .blocks import Block, BlockImage
from .failure import Failure


def parked_blocks(folder: Path) -> dict[str, BlockImage]:
    """The memory of every block, by name."""
    try:
        manifest = json.loads((folder / "machine.json").read_text())
        listed = [
            (Block(each["name"], each["usedBytes"], each["hostPageBytes"]), each["file"])
            for each in manifest["blocks"]
        ]
    except (OSError, ValueError, KeyError) as error:
        raise Failure(f"the parked machine: {error!r}") from error
    return {block.name: BlockImage(block, [(0, folder / file)]) for block, file in listed}
