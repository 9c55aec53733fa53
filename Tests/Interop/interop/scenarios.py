"""The scenarios: who migrates to whom, and what must hold afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .blocks import BlockImage, dump_blocks
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
from .damage import spoil
from .proxy import Proxy
from .scene import Scene


@dataclass(frozen=True)
class Outcome:
    """A good run."""

    told: str
    """For the reader's line."""
    fault_us: float | None = None
    """How long a missing page kept whoever needed it, as the destination reports it."""


Scenario = Callable[[Scene], Awaitable[Outcome]]
"""Raises `Failure` for a run that was not good."""

# Lines that the guest must say at its new place: it has been over all of its hot pages by then.
REPORTS_AFTERWARDS = 3

# Seconds that a paced QEMU takes for its memory: on a busy machine a thread may wait for a tenth of
# that before it touches anything.
PACED_SECONDS = 2

# Bytes a second to the final destination in an evacuation: 256 MiB take five seconds, while the
# source is rid of them in one.
EVACUATION_PACE = 50 << 20


async def qemu_to_qemu(scene: Scene) -> Outcome:
    """Shows that guest and harness are good for what they are used for."""
    async with scene.source() as source, scene.destination() as destination:
        await depart(scene, source, uri(await listen(destination)))
        await source.until_status("completed", seconds=MIGRATION_SECONDS)
        figures = await SourceFigures.of(source)
        return await goes_on(
            scene, source.count, destination, str(figures), figures.postcopy_requests
        )


async def qemu_to_us(scene: Scene) -> Outcome:
    """A QEMU hands its guest to `postcopy receive`, whose copy equals the guest's memory."""
    async with scene.source() as source:
        return await park(scene, source, scene.folder / "parked")


async def us_to_qemu(scene: Scene) -> Outcome:
    """`postcopy send` hands a parked guest to a QEMU, where it runs on."""
    parked = scene.folder / "parked"
    async with scene.source() as source:
        arrived = await park(scene, source, parked)
        count = source.count
    async with scene.destination() as destination:
        async with sending(scene, parked, uri(await listen(destination))) as command:
            report = await command.succeed(MIGRATION_SECONDS)
            told = f"{arrived.told}; sent: {served(report)}"
            requests = report.get("source", {}).get("requests", 0)
            return await goes_on(scene, count, destination, told, requests)


async def us_to_us(scene: Scene) -> Outcome:
    """A parked guest is handed to another `postcopy receive`, and both copies are equal."""
    first, second = scene.folder / "parked", scene.folder / "parked-again"
    async with scene.source() as source:
        arrived = await park(scene, source, first)
    async with receiving(scene, second, "receive-again") as receiver:
        async with sending(scene, first, await receiver.listening_uri()) as sender:
            sent = await sender.succeed(MIGRATION_SECONDS)
            report = await receiver.succeed(MIGRATION_SECONDS)
    same = same_memory(parked_blocks(first), parked_blocks(second))
    told = f"{arrived.told}; sent: {served(sent)}; received: {served(report)}; {same}"
    return Outcome(told, fault_us(report))


async def relay(scene: Scene) -> Outcome:
    """A guest passes through us from QEMU to QEMU, while its pages arrive or after."""
    async with scene.source() as source, scene.destination() as destination:
        async with relaying(scene, uri(await listen(destination))) as command:
            await depart(scene, source, await command.listening_uri())
            await source.until_status("completed", seconds=MIGRATION_SECONDS)
            told = str(await SourceFigures.of(source))
            return await passed_on(scene, source.count, destination, command, told)


async def evacuate(scene: Scene) -> Outcome:
    """The source's process ends while the final destination still waits for pages from us."""
    async with scene.destination() as destination:
        address = await listen(destination)
        async with Proxy(address, bytes_per_second=EVACUATION_PACE).open() as link:
            async with scene.source() as source, relaying(scene, link.uri) as command:
                await depart(scene, source, await command.listening_uri())
                await source.until_status("completed", seconds=MIGRATION_SECONDS)
                told = str(await SourceFigures.of(source))
                await source.end()
                if "completed" in destination.statuses:
                    raise Failure("the destination had everything before the source was gone")
                return await passed_on(scene, source.count, destination, command, told)


async def damage_is_found(scene: Scene) -> Outcome:
    """Spoils one page of a guest: both the guest and the judge of its dump must find it."""
    kind = scene.variant.damage
    assert kind is not None
    async with scene.source() as source:
        good = await scene.judge(source)
        await spoil(source, scene.guest, kind)
        judged = await refused(scene.judge(source), f"the judge of dumps, a page that is {kind}")
        await source.ask("cont")
        runs_on = source.until_reports(1 << 20, seconds=MIGRATION_SECONDS)
        heard = await refused(runs_on, f"the guest, a page that is {kind}")
        if source.complaint is None:
            raise Failure(heard)
    return Outcome(f"{good}; one page made {kind}: {judged}; {heard}")


async def refused(work: Awaitable[Any], what: str) -> str:
    try:
        await work
    except Failure as failure:
        return str(failure)
    raise Failure(f"not found: by {what}")


SCENARIOS: dict[str, Scenario] = {
    each.__name__: each
    for each in (
        qemu_to_qemu, qemu_to_us, us_to_qemu, us_to_us, relay, evacuate, damage_is_found
    )
}


def uri(address: tuple[str, int]) -> str:
    host, port = address
    return f"tcp:{host}:{port}"


def receiving(
    scene: Scene, place: Path, name: str = "receive", *more: str
) -> AbstractAsyncContextManager[Command]:
    arguments = ["receive", "tcp:127.0.0.1:0", "--from-qemu", "--park", str(place)]
    if not scene.variant.precopy:
        arguments += ["--touch-threads", str(scene.variant.touch_threads)]
    return scene.postcopy(name, *arguments, *more)


def sending(
    scene: Scene, place: Path, target: str, *more: str
) -> AbstractAsyncContextManager[Command]:
    arguments = ["send", target, "--from-park", str(place)]
    arguments += [] if scene.variant.preempt else ["--no-preempt"]
    arguments += [] if scene.variant.precopy else ["--no-precopy"]
    return scene.postcopy("send", *arguments, *more)


def relaying(scene: Scene, target: str) -> AbstractAsyncContextManager[Command]:
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


async def park(scene: Scene, source: Machine, place: Path) -> Outcome:
    """Takes the guest of `source` and compares what came with what the source had."""
    is_touched = scene.variant.touch_threads > 0 and not scene.variant.precopy
    must_request = is_touched and scene.variant.paced
    if must_request:
        rate = int(scene.variant.shape.length / PACED_SECONDS)
        await source.ask("migrate-set-parameters", **{"max-postcopy-bandwidth": rate})
    async with receiving(scene, place) as command:
        await depart(scene, source, await command.listening_uri())
        await source.until_status("completed", seconds=MIGRATION_SECONDS)
        report = await command.succeed(MIGRATION_SECONDS)
    return await compare_parked(scene, source, place, report, must_request)


async def compare_parked(
    scene: Scene, source: Machine, place: Path, report: dict[str, Any], must_request: bool
) -> Outcome:
    """Compares what was parked with what is in the stopped source."""
    figures = await SourceFigures.of(source)
    if must_request and figures.postcopy_requests == 0:
        raise Failure("threads touched memory that was arriving, and no page was requested")
    same = same_memory(await dump_blocks(source, scene.folder / "memory"), parked_blocks(place))
    verdict = scene.judge_images("parked", parked_blocks(place))
    told = f"{figures}; received: {served(report)}; {same}; {verdict}"
    return Outcome(told, fault_us(report))


def same_memory(theirs: dict[str, BlockImage], mine: dict[str, BlockImage]) -> str:
    """Compares all blocks of one machine with those of another, page by page."""
    if missing := set(theirs) - set(mine):
        raise Failure(f"blocks were not parked: {' '.join(sorted(missing))}")
    for name, image in theirs.items():
        if image.block.length != mine[name].block.length:
            raise Failure(f"{name}: {mine[name].block.length} bytes of {image.block.length}")
        if pages := image.differing_pages(mine[name]):
            raise Failure(f"{name}: {len(pages)} pages differ, the first at {pages[0]:#x}")
    left_out = sorted(set(mine) - set(theirs))
    return f"equal: {' '.join(theirs)}" + (f" (unseen: {' '.join(left_out)})" if left_out else "")


async def goes_on(
    scene: Scene, count: int, destination: Machine, told: str, requests: int
) -> Outcome:
    """The guest arrives wholly, goes on where it was, and is found good from outside as well."""
    await destination.until_status("completed", seconds=MIGRATION_SECONDS)
    await destination.until_reports(REPORTS_AFTERWARDS, seconds=MIGRATION_SECONDS)
    if destination.count <= count:
        raise Failure(f"the guest had done {count} and says {destination.count} at its new place")
    waited: float | None = None
    if not scene.variant.precopy:
        blocked = await DestinationFigures.of(destination)
        told = f"{told}; {blocked}"
        if requests:
            waited = 1000 * sum(blocked.vcpu_blocktime_ms) / requests
            told = f"{told}, {waited:.0f} us a request"
    verdict = await scene.judge(destination)
    return Outcome(f"{told}; went on from {count} to {destination.count}, {verdict}", waited)


async def passed_on(
    scene: Scene, count: int, destination: Machine, command: Command, told: str
) -> Outcome:
    """The end of a guest's way through us."""
    await destination.until_status("completed", seconds=MIGRATION_SECONDS)
    report = await command.succeed(MIGRATION_SECONDS)
    requests = report.get("source", {}).get("requests", 0)
    told = f"{told}; passed on: {served(report)}"
    return await goes_on(scene, count, destination, told, requests)


def served(report: dict[str, Any]) -> str:
    """Of our report, what tells how the guest was served."""
    told = [
        f"{report[side]['requests']} requests {verb}"
        for side, verb in (("destination", "made"), ("source", "answered"))
        if report.get(side, {}).get("requests") is not None
    ]
    if latency := report.get("postcopy-latency-ns"):
        told.append(f"p50 {latency['p50'] / 1e3:.0f} us, p99 {latency['p99'] / 1e3:.0f} us")
    if total := report.get("total-time-ns"):
        told.append(f"{total / 1e6:.0f} ms")
    return ", ".join(told) or "no figures"


def fault_us(report: dict[str, Any]) -> float | None:
    """The mean, since of a QEMU's faults no more than that is known."""
    latency = report.get("postcopy-latency-ns")
    return latency["mean"] / 1e3 if latency and latency["count"] else None
