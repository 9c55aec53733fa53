"""The scenarios in which the link ends while pages are owed, and somebody takes it up again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any

from .child import START_SECONDS
from .command import Command
from .failure import Failure
from .machine import Machine
from .migration import MIGRATION_SECONDS, listen
from .proxy import Proxy
from .scenarios import (
    Outcome,
    Scenario,
    depart,
    goes_on,
    park,
    compare_parked,
    receiving,
    sending,
    served,
    uri,
)
from .scene import Scene

# Seconds in which all memory would come were it not for the breaks: long enough that pages are owed
# at each of them.
PACED_SECONDS = 3

# Of all memory, what comes between two breaks at most: it leaves some for the next.
SHARE_MAX = 0.2

# Seconds until both sides have noticed, and until pages flow again, on a machine with other work.
TURN_SECONDS = 60

PAUSED = "postcopy-paused"
RECOVERING = "postcopy-recover"
ACTIVE = "postcopy-active"


async def recover_from_qemu(scene: Scene) -> Outcome:
    """The link from a QEMU to us ends and QEMU resumes it, each time; our copy is right."""
    place = scene.folder / "parked"
    pace = int(scene.variant.shape.length / PACED_SECONDS)
    async with scene.source() as source:
        await source.ask("migrate-set-parameters", **{"max-postcopy-bandwidth": pace})
        more = scene.control("receive")
        async with receiving(scene, place, "receive", *more) as command:
            host, port = (await command.listening_uri()).removeprefix("tcp:").rsplit(":", 1)
            async with Proxy((host, int(port))).open() as link:
                await depart(scene, source, link.uri)
                await until_it_is_ours(scene, "receive")
                for number, kind in enumerate(scene.variant.breaks, 1):
                    await end_link(scene, kind, link, source, "receive")
                    await source.until_announced(PAUSED, number, TURN_SECONDS)
                    await source.until_it_can_resume(TURN_SECONDS)
                    await source.ask("migrate", uri=link.uri, resume=True)
                    if kind == "ours":
                        # It waits until we let it in.
                        await source.until_announced(RECOVERING, number, TURN_SECONDS)
                        await scene.steer("receive", "recover")
                    await source.until_announced(ACTIVE, 1 + number, TURN_SECONDS)
                await source.until_status("completed", seconds=MIGRATION_SECONDS)
                report = await command.succeed(MIGRATION_SECONDS)
        outcome = await compare_parked(scene, source, place, report, must_request=False)
    return Outcome(f"{breaks(scene, report, 'destination')}; {outcome.told}")


async def recover_to_qemu(scene: Scene) -> Outcome:
    """The link from us to a QEMU ends and we resume it, each time; the guest runs on there."""
    place = scene.folder / "parked"
    pace = int(scene.variant.shape.length / PACED_SECONDS)
    async with scene.source() as source:
        await park(scene, source, place)
        count = source.count
    async with scene.destination() as destination, contextlib.AsyncExitStack() as links:

        async def link_to(address: tuple[str, int]) -> Proxy:
            return await links.enter_async_context(Proxy(address, bytes_per_second=pace).open())

        link = await link_to(await listen(destination))
        async with sending(scene, place, link.uri, *scene.control("send")) as command:
            # Until then a break is the end, for QEMU as well.
            await destination.until_it_runs(MIGRATION_SECONDS)
            for number, kind in enumerate(scene.variant.breaks, 1):
                await end_link(scene, kind, link, destination, "send")
                await destination.until_announced(PAUSED, number, TURN_SECONDS)
                await until_told(command, "waits for somebody", number)
                link = await link_to(await listen(destination, "migrate-recover"))
                await scene.steer("send", "recover", link.uri)
                await destination.until_announced(ACTIVE, 1 + number, TURN_SECONDS)
            report = await command.succeed(MIGRATION_SECONDS)
            told = f"{breaks(scene, report, 'source')}; sent: {served(report)}"
            requests = report.get("source", {}).get("requests", 0)
            return await goes_on(scene, count, destination, told, requests)


RECOVERIES: dict[str, Scenario] = {
    each.__name__: each for each in (recover_from_qemu, recover_to_qemu)
}


async def end_link(scene: Scene, kind: str, link: Proxy, qemu: Machine, ours: str) -> None:
    """Ends the link at some moment while pages come."""
    share = random.uniform(0, SHARE_MAX)
    await link.until_more(int(share * scene.variant.shape.length), MIGRATION_SECONDS)
    match kind:
        case "cut":
            link.cut()
        case "qemu":
            await qemu.ask("migrate-pause")
        case "ours":
            await scene.steer(ours, "pause")
        case _:
            raise ValueError(kind)


async def until_it_is_ours(scene: Scene, name: str) -> None:
    """Waits until we have the guest: QEMU up to 7.2 announces that before it has sent it."""
    async with asyncio.timeout(TURN_SECONDS):
        while json.loads(await scene.steer(name, "status", "--json"))["status"] != ACTIVE:
            await asyncio.sleep(0.01)


async def until_told(command: Command, what: str, times: int) -> None:
    """Waits until a command of ours has said `what` of its link so often."""
    beginning = f"link: {what}"

    def holds() -> bool:
        return sum(beginning in line for line in command.lines) >= times

    await command.until(beginning, START_SECONDS, holds)


def breaks(scene: Scene, report: dict[str, Any], side: str) -> str:
    """What our report tells of the breaks, each of which must be there and be over."""
    listed: list[dict[str, Any]] = report.get(side, {}).get("breaks", [])
    if len(listed) != len(scene.variant.breaks):
        raise Failure(f"the report has {len(listed)} breaks: {listed}")
    if lasting := [each for each in listed if "resumed-at-ns" not in each]:
        raise Failure(f"the report has breaks that never ended: {lasting}")
    told = [
        f"resumed {(each['resumed-at-ns'] - each['link-back-at-ns']) / 1e6:.1f} ms after the link"
        for each in listed
    ]
    return ", ".join(told)
