"""How long a missing page keeps whoever needs it: served by QEMU and by us, seen by both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from statistics import median

from .failure import Failure

# Destination and source of each row, and the scenario whose last migration is between the two.
ROWS = (
    ("QEMU", "QEMU", "qemu_to_qemu"),
    ("QEMU", "postcopy", "us_to_qemu"),
    ("postcopy", "QEMU", "qemu_to_us"),
    ("postcopy", "postcopy", "us_to_us"),
)


async def compare(rounds: int, run: Callable[[str], Awaitable[float | None]]) -> str:
    """The medians over `rounds`, in each of which every row has its turn: the machine's other work
    falls on all alike.

    A QEMU reports the time that its processor was blocked, here divided by the requests answered;
    `postcopy` reports each fault, of which this takes the mean as well.
    """
    seen: dict[str, list[float]] = {scenario: [] for _, _, scenario in ROWS}
    for _ in range(rounds):
        for _, _, scenario in ROWS:
            waited = await run(scenario)
            if waited is None:
                raise Failure(f"{scenario}: no request was made, and so none waited")
            seen[scenario].append(waited)
    lines = ["destination  source    median us a fault"]
    for destination, source, scenario in ROWS:
        lines.append(f"{destination:12} {source:9} {median(seen[scenario]):.0f}")
    ratio = median(seen["qemu_to_qemu"]) / max(median(seen["us_to_qemu"]), 1e-3)
    lines.append(f"QEMU's destination is {ratio:.1f} times better off with our source")
    return "\n".join(lines)
