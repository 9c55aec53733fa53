#!/usr/bin/env python3
"""Makes Tests/Vectors: small migrations from QEMU to QEMU, every byte of every channel."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interop.blocks import dump_blocks, list_blocks
from interop.failure import Failure
from interop.guest import MEBIBYTE, PAGE, GuestImages, GuestParameters, assemble
from interop.hugepages import reserved_huge_pages
from interop.machine import Machine, MachineShape, MemoryPart, running
from interop.migration import MIGRATION_SECONDS, Terms, listen, switch_to_postcopy
from interop.proxy import Channel, Proxy

VECTORS = Path(__file__).resolve().parent.parent / "Vectors"

# Bytes a second and ms: the first pass over memory takes some of QEMU's windows of 100 ms, and what
# the guest dirties meanwhile never fits into the downtime, so that only the switch ends precopy.
SLOW = {"max-bandwidth": 400_000, "downtime-limit": 1, "max-postcopy-bandwidth": 100_000}

# Of the first pass over MIXED, about a half.
WITHIN_PASS_BYTES = 50_000

TINY = MachineShape((MemoryPart(2),), firmware=False)
MIXED = MachineShape((MemoryPart(2, huge=True), MemoryPart(2)), firmware=False)


def small_guest(shape: MachineShape) -> GuestParameters:
    """Few pages, on both sides of the border between two blocks where there is one."""
    middle = shape.memory[0].length if len(shape.memory) > 1 else MEBIBYTE + 16 * PAGE
    return GuestParameters(
        fill_start=middle - 6 * PAGE,
        fill_end=middle + 6 * PAGE,
        hot_start=middle - 4 * PAGE,
        hot_end=middle + 4 * PAGE,
        random=0,
        seed=0x5EED,
        report_every=100_000,
        cold_checks=4,
    )


@dataclass(frozen=True)
class Vector:
    name: str
    what: str
    shape: MachineShape
    terms: Terms
    switch_within_pass: bool = False
    """Switches before all memory was sent once; else after it."""
    cut: bool = False


VECTOR_LIST = (
    Vector(
        "postcopy",
        "a round of precopy, then postcopy; urgent pages go on the main channel",
        TINY,
        Terms(parameters=SLOW),
    ),
    Vector(
        "postcopy-preempt",
        "a round of precopy, then postcopy; urgent pages go on the preempt channel",
        TINY,
        Terms(preempt=True, parameters=SLOW),
    ),
    Vector(
        "precopy",
        "precopy that completes, with the return path open",
        TINY,
        Terms(postcopy=False, parameters={"downtime-limit": 300}),
    ),
    Vector(
        "postcopy-hugetlb",
        "postcopy of a block of 2 MiB pages beside one of 4 KiB pages",
        MIXED,
        Terms(parameters={**SLOW, "max-bandwidth": 100_000}),
        # The length of a block of huge pages cannot be odd, see `MemoryPart.length`.
        switch_within_pass=True,
    ),
    Vector(
        "postcopy-recover",
        "postcopy, cut, then recovered on a second connection",
        TINY,
        # Two pages a second of all that is left: the cut comes in the middle.
        Terms(parameters={**SLOW, "max-postcopy-bandwidth": 8_000}),
        cut=True,
    ),
)


@dataclass
class Bench:
    """Where one vector is made."""

    vector: Vector
    source: Machine
    destination: Machine

    async def start(self, proxy: Proxy, **extra: Any) -> None:
        await self.source.ask("migrate", uri=proxy.uri, **extra)


@contextlib.asynccontextmanager
async def bench(
    vector: Vector, images: GuestImages, folder: Path, qemu: str
) -> AsyncIterator[Bench]:
    shape, terms = vector.shape, vector.terms
    async with (
        running("source", shape, images, folder, qemu=qemu) as source,
        running("destination", shape, images, folder, incoming=True, qemu=qemu) as destination,
    ):
        await terms.set_at_source(source)
        await terms.set_at_destination(destination)
        await source.until_reports(2, seconds=60)
        yield Bench(vector, source, destination)


async def capture(vector: Vector, qemu: str, into: Path) -> dict[str, Any]:
    """Runs one migration and writes its channels."""
    with tempfile.TemporaryDirectory(prefix="vector-") as path, contextlib.ExitStack() as stack:
        folder = Path(path)
        stack.enter_context(reserved_huge_pages(2 * vector.shape.huge_pages))
        parameters = small_guest(vector.shape)
        async with bench(vector, assemble(parameters, folder), folder, qemu) as made:
            channels = await (cut_and_recover(made) if vector.cut else run_through(made))
            await made.destination.until_reports(2, seconds=60)
            version = (await made.source.ask("query-version"))["package"]
            blocks = [block.as_json() for block in await list_blocks(made.source)]
            for name, image in (await dump_blocks(made.source, folder / "dump")).items():
                next(each for each in blocks if each["name"] == name)["sha256"] = image.digest()
            machine_type = machine_name(channels[0])
            states = {"source": made.source.statuses, "destination": made.destination.statuses}
            line = " ".join([qemu, *vector.shape.arguments(images_for_reader())])
    files = write(channels, vector, into / vector.name)
    return {
        "name": vector.name,
        "what": vector.what,
        "qemu": version,
        "commandLine": line,
        "machineType": machine_type,
        "blocks": blocks,
        "guest": parameters.as_json(),
        "capabilities": {"source": vector.terms.source, "destination": vector.terms.destination},
        "parameters": vector.terms.parameters,
        "states": states,
        "files": files,
    }


def images_for_reader() -> GuestImages:
    return GuestImages(Path("guest.disk"), Path("guest.firmware"))


def machine_name(main: Channel) -> str:
    length = int.from_bytes(main.forward[9:13], "big")
    return main.forward[13 : 13 + length].decode("ascii")


async def run_through(made: Bench) -> list[Channel]:
    source, destination = made.source, made.destination
    async with Proxy(await listen(destination), keeps=True).open() as proxy:
        await made.start(proxy)
        if made.vector.switch_within_pass:
            await proxy.until_forwarded(WITHIN_PASS_BYTES, MIGRATION_SECONDS)
            await switch_to_postcopy(source)
        elif made.vector.terms.postcopy:
            # Pass 2 begins when all memory was sent once.
            await source.until("the second pass", MIGRATION_SECONDS, lambda: source.passes >= 2)
            await switch_to_postcopy(source)
        await source.until_status("completed", seconds=MIGRATION_SECONDS)
        await destination.until_status("completed", seconds=MIGRATION_SECONDS)
        await proxy.until_over(seconds=60)
        return proxy.channels


async def cut_and_recover(made: Bench) -> list[Channel]:
    source, destination = made.source, made.destination
    async with Proxy(await listen(destination), keeps=True).open() as first:
        await made.start(first)
        await source.until("the second pass", MIGRATION_SECONDS, lambda: source.passes >= 2)
        await switch_to_postcopy(source)
        await destination.until_it_runs(seconds=60)
        sent = len(first.channels[0].forward)
        await first.until_forwarded(sent + 3 * PAGE, seconds=60)
        first.cut()
        await source.until_status("postcopy-paused", seconds=60)
        await destination.until_status("postcopy-paused", seconds=60)
    async with Proxy(await listen(destination, "migrate-recover"), keeps=True).open() as second:
        await source.ask("migrate-set-parameters", **{"max-postcopy-bandwidth": 0})
        await made.start(second, resume=True)
        await source.until_status("completed", seconds=MIGRATION_SECONDS)
        await destination.until_status("completed", seconds=MIGRATION_SECONDS)
        await second.until_over(seconds=60)
        return first.channels + second.channels


def write(channels: list[Channel], vector: Vector, folder: Path) -> list[dict[str, Any]]:
    """One file for each direction that carried bytes; a preempt channel has no way back."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files: list[dict[str, Any]] = []

    def keep(name: str, data: bytearray) -> None:
        (folder / name).write_bytes(data)
        files.append({"file": f"{folder.name}/{name}", "bytes": len(data)})

    for index, channel in enumerate(channels):
        if index and not vector.cut:
            keep("preempt.bin", channel.forward)
            if channel.backward:
                raise Failure("the destination wrote to the preempt channel")
            continue
        suffix = "-resumed" if index else ""
        keep(f"main{suffix}.bin", channel.forward)
        keep(f"return{suffix}.bin", channel.backward)
    return files


async def capture_all(names: list[str], qemu: str, into: Path) -> None:
    manifest = into / "manifest.json"
    listed = json.loads(manifest.read_text()) if manifest.exists() else []
    known = {each["name"]: each for each in listed}
    for vector in VECTOR_LIST:
        if names and vector.name not in names:
            continue
        known[vector.name] = made = await capture(vector, qemu, into)
        sizes = ", ".join(f"{each['file']} {each['bytes']}" for each in made["files"])
        print(f"{vector.name}: {sizes}", flush=True)
        order = [known[each.name] for each in VECTOR_LIST if each.name in known]
        manifest.write_text(json.dumps(order, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    known = [vector.name for vector in VECTOR_LIST]
    parser.add_argument("names", nargs="*", metavar="VECTOR", help=f"some of: {', '.join(known)}")
    parser.add_argument("--qemu", default="qemu-system-x86_64", help="the QEMU to capture from")
    parser.add_argument("--into", type=Path, default=VECTORS, help="the folder to write to")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"no such vector: {', '.join(sorted(unknown))}")
    try:
        asyncio.run(capture_all(options.names, options.qemu, options.into))
    except Failure as failure:
        print(f"capture_vectors: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
