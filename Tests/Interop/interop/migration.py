"""Migrations as QEMU's monitor starts, switches and reports them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from .failure import Failure
from .machine import Machine

# Seconds for a migration as a whole: 2 GiB through a proxy on two busy cores take about 30.
MIGRATION_SECONDS = 300

# Seconds from the announcement of the end to QEMU's own summary of it: it is the next thing done.
SUMMARY_SECONDS = 20

# Both sides must have these alike.
POSTCOPY = "postcopy-ram"
PREEMPT = "postcopy-preempt"


@dataclass(frozen=True)
class Terms:
    """Capabilities and parameters of one migration."""

    preempt: bool = False
    postcopy: bool = True
    parameters: dict[str, int] = field(default_factory=dict)
    """Of the source."""

    @property
    def common(self) -> list[str]:
        if not self.postcopy:
            return []
        return [POSTCOPY, PREEMPT] if self.preempt else [POSTCOPY]

    @property
    def source(self) -> list[str]:
        return ["events", *self.common, *([] if self.postcopy else ["return-path"])]

    @property
    def destination(self) -> list[str]:
        return ["events", *self.common, *(["postcopy-blocktime"] if self.postcopy else [])]

    async def set_at_source(self, source: Machine) -> None:
        await _switch_on(source, self.source)
        if self.parameters:
            await source.ask("migrate-set-parameters", **self.parameters)

    async def set_at_destination(self, destination: Machine) -> None:
        await _switch_on(destination, self.destination)


async def _switch_on(machine: Machine, names: list[str]) -> None:
    switches = [{"capability": name, "state": True} for name in names]
    await machine.ask("migrate-set-capabilities", capabilities=switches)


async def listen(destination: Machine, command: str = "migrate-incoming") -> tuple[str, int]:
    """Lets the destination listen on a port of the system's choice, and says which."""
    await destination.ask(command, uri="tcp:127.0.0.1:0")
    return await listening_address(destination)


async def listening_address(destination: Machine) -> tuple[str, int]:
    answer = await destination.ask("query-migrate")
    addresses: list[dict[str, str]] = answer.get("socket-address", [])
    if not addresses:
        raise Failure(f"{destination.name}: QEMU does not say where it listens: {answer}")
    return addresses[-1]["host"], int(addresses[-1]["port"])


async def switch_to_postcopy(source: Machine) -> None:
    """Asks for the switch, and refuses a migration that completed by itself before it."""
    await source.ask("migrate-start-postcopy")
    status = await source.until_status("postcopy-active", "completed", seconds=MIGRATION_SECONDS)
    if status == "completed":
        raise Failure(f"{source.name}: everything was sent before the switch to postcopy")


@dataclass(frozen=True)
class SourceFigures:
    """What the source's QEMU reports in the end; times in milliseconds."""

    total_ms: int
    downtime_ms: int
    postcopy_requests: int
    zero_pages: int
    normal_pages: int

    def __str__(self) -> str:
        return (
            f"{self.total_ms} ms, downtime {self.downtime_ms} ms, "
            f"{self.postcopy_requests} requests, {self.normal_pages} pages"
        )

    @classmethod
    async def of(cls, source: Machine) -> SourceFigures:
        answer = await source.ask("query-migrate")
        # QEMU announces the end first and then adds up: a moment later the time is there.
        async with asyncio.timeout(SUMMARY_SECONDS):
            while not answer.get("total-time"):
                await asyncio.sleep(0.01)
                answer = await source.ask("query-migrate")
        ram: dict[str, Any] = answer["ram"]
        return cls(
            total_ms=answer["total-time"],
            downtime_ms=answer.get("downtime", -1),
            postcopy_requests=ram["postcopy-requests"],
            zero_pages=ram["duplicate"],
            normal_pages=ram["normal"],
        )


@dataclass(frozen=True)
class DestinationFigures:
    """What the destination's QEMU reports in the end; times in milliseconds."""

    blocktime_ms: int
    vcpu_blocktime_ms: list[int]

    def __str__(self) -> str:
        return f"blocktime {self.blocktime_ms} ms, by vCPU {self.vcpu_blocktime_ms}"

    @classmethod
    async def of(cls, destination: Machine) -> DestinationFigures:
        answer = await destination.ask("query-migrate")
        if "postcopy-blocktime" not in answer:
            raise Failure(f"{destination.name}: QEMU reports no blocktime: {answer}")
        return cls(answer["postcopy-blocktime"], answer["postcopy-vcpu-blocktime"])
