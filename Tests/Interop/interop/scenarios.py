"""The scenarios: who migrates to whom, and what must hold afterwards.

Each is a function of a scene. It returns figures for the reader's line and raises `Failure`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from .blocks import dump_blocks
from .command import Command
from .failure import Failure
from .machine import Machine
from .migration import (
    MIGRATION_SECONDS,
    DestinationFigures,
    SourceFigures,
    listen,
    switch_to_postcopy,
)
from .parked import parked_blocks
from .proxy import Proxy
from .scene import Scene

Scenario = Callable[[Scene], Awaitable[str]]

# Lines that the guest must say at its new place: it has been over all of its hot pages by then.
REPORTS_AFTERWARDS = 3

# Bytes a second to the final destination in an evacuation: 256 MiB take ten seconds, while the
# source is rid of them in one.
EVACUATION_PACE = 25 << 20


async def qemu_to_qemu(scene: Scene) -> str:
    """Shows that guest and harness are good for what they are used for."""
    async with scene.source() as source, scene.destination() as destination:
        await depart(scene, source, uri(await listen(destination)))
        await source.until_status("completed", seconds=MIGRATION_SECONDS)
        figures = str(await SourceFigures.of(source))
        return f"{figures}; {await goes_on(scene, source.count, destination)}"


async def qemu_to_us(scene: Scene) -> str:
    """A QEMU hands its guest to `postcopy receive`, whose copy equals the guest's memory."""
    async with scene.source() as source:
        return await park(scene, source, scene.folder / "parked")


async def us_to_qemu(scene: Scene) -> str:
    """`postcopy send` hands a parked guest to a QEMU, where it runs on."""
    parked = scene.folder / "parked"
    async with scene.source() as source:
        figures = await park(scene, source, parked)
        count = source.count
    async with scene.destination() as destination:
        arguments = [uri(await listen(destination)), "--from-park", str(parked)]
        arguments += [] if scene.variant.preempt else ["--no-preempt"]
        arguments += ["--precopy"] if scene.variant.precopy else []
        async with scene.postcopy("send", "send", *arguments) as command:
            report = await command.succeed(MIGRATION_SECONDS)
            sent = f"sent: {served(report)}; {await goes_on(scene, count, destination)}"
    return f"{figures}; {sent}"


async def relay(scene: Scene) -> str:
    """A guest passes through us from QEMU to QEMU, while its pages arrive or after."""
    async with scene.source() as source, scene.destination() as destination:
        async with relaying(scene, uri(await listen(destination))) as command:
            await depart(scene, source, await command.listening_uri())
            await source.until_status("completed", seconds=MIGRATION_SECONDS)
            figures = str(await SourceFigures.of(source))
            went_on = await goes_on(scene, source.count, destination)
            report = await command.succeed(MIGRATION_SECONDS)
    return f"{figures}; passed on: {served(report)}; {went_on}"


async def evacuate(scene: Scene) -> str:
    """The source's process ends while the final destination still waits for pages from us."""
    async with scene.destination() as destination:
        address = await listen(destination)
        async with Proxy(address, bytes_per_second=EVACUATION_PACE).open() as link:
            async with scene.source() as source, relaying(scene, link.uri) as command:
                await depart(scene, source, await command.listening_uri())
                await source.until_status("completed", seconds=MIGRATION_SECONDS)
                figures, count = str(await SourceFigures.of(source)), source.count
                await source.end()
                if "completed" in destination.statuses:
                    raise Failure("the destination had everything before the source was gone")
                went_on = await goes_on(scene, count, destination)
                report = await command.succeed(MIGRATION_SECONDS)
    return f"{figures}; passed on: {served(report)}; {went_on}"


SCENARIOS: dict[str, Scenario] = {
    each.__name__: each for each in (qemu_to_qemu, qemu_to_us, us_to_qemu, relay, evacuate)
}


def uri(address: tuple[str, int]) -> str:
    host, port = address
    return f"tcp:{host}:{port}"


def relaying(scene: Scene, target: str) -> Any:
    arguments = ["relay", "tcp:127.0.0.1:0", target]
    arguments += ["--hold"] if scene.variant.hold else []
    arguments += [] if scene.variant.preempt else ["--no-preempt"]
    return scene.postcopy("relay", *arguments)


async def depart(scene: Scene, source: Machine, target: str) -> None:
    """Starts a migration and, after the time that the variant says, switches it to postcopy."""
    await source.ask("migrate", uri=target)
    if not scene.variant.precopy:
        # Not a wait for anything: how far precopy has come is what is varied.
        await asyncio.sleep(scene.variant.switch_after)
        await switch_to_postcopy(source)


async def park(scene: Scene, source: Machine, place: Path) -> str:
    """Takes the guest of `source` and compares what came with what the source had."""
    variant = scene.variant
    arguments = ["receive", "tcp:127.0.0.1:0", "--from-qemu", "--park", str(place)]
    if not variant.precopy:
        arguments += ["--touch-threads", str(variant.touch_threads)]
    async with scene.postcopy("receive", *arguments) as command:
        await depart(scene, source, await command.listening_uri())
        await source.until_status("completed", seconds=MIGRATION_SECONDS)
        report = await command.succeed(MIGRATION_SECONDS)
    figures = await SourceFigures.of(source)
    if variant.touch_threads and not variant.precopy and figures.postcopy_requests == 0:
        raise Failure("threads touched memory that was arriving, and no page was requested")
    compared = await same_memory(scene, source, place)
    verdict = scene.judge_images("parked", parked_blocks(place))
    return f"{figures}; received: {served(report)}; {compared}; {verdict}"


async def same_memory(scene: Scene, source: Machine, place: Path) -> str:
    """Compares a parked machine with the stopped guest that it was, page by page."""
    mine = parked_blocks(place)
    theirs = await dump_blocks(source, scene.folder / "source-memory")
    if missing := set(theirs) - set(mine):
        raise Failure(f"blocks were not parked: {' '.join(sorted(missing))}")
    for name, image in theirs.items():
        if image.block.length != mine[name].block.length:
            raise Failure(f"{name}: {mine[name].block.length} bytes of {image.block.length}")
        if pages := image.differing_pages(mine[name]):
            raise Failure(f"{name}: {len(pages)} pages differ, the first at {pages[0]:#x}")
    left_out = sorted(set(mine) - set(theirs))
    return f"equal: {' '.join(theirs)}" + (f" (unseen: {' '.join(left_out)})" if left_out else "")


async def goes_on(scene: Scene, count: int, destination: Machine) -> str:
    """The guest arrives wholly, goes on where it was, and is found good from outside as well."""
    await destination.until_status("completed", seconds=MIGRATION_SECONDS)
    await destination.until_reports(REPORTS_AFTERWARDS, seconds=MIGRATION_SECONDS)
    if destination.count <= count:
        raise Failure(f"the guest had done {count} and says {destination.count} at its new place")
    blocktime = "" if scene.variant.precopy else f"{await DestinationFigures.of(destination)}, "
    return f"{blocktime}went on from {count} to {destination.count}, {await scene.judge(destination)}"


def served(report: dict[str, Any]) -> str:
    """Of our report, what tells how the guest was served."""
    sides = [report[side] for side in ("destination", "source") if side in report]
    told = [f"{side['requests']} requests" for side in sides if side.get("requests") is not None]
    if latency := report.get("postcopy-latency-ns"):
        told.append(f"p50 {latency['p50'] / 1e3:.0f} us, p99 {latency['p99'] / 1e3:.0f} us")
    if total := report.get("total-time-ns"):
        told.append(f"{total / 1e6:.0f} ms in all")
    return ", ".join(told) or "no figures"
