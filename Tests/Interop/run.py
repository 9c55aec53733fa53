#!/usr/bin/env python3
"""Runs a scenario of migrations between QEMU and `postcopy`. Ends with 0 if each run was good."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from interop.damage import KINDS
from interop.failure import Failure
from interop.latency import compare
from interop.recovery import RECOVERIES
from interop.scenarios import Outcome
from interop.scenarios import SCENARIOS as UNBROKEN
from interop.scene import BREAKS, LAYOUTS, Tools, Variant, scene
from interop.suite import SUITE

SCENARIOS = UNBROKEN | RECOVERIES

# Seconds for one run, above all deadlines within it that can follow each other.
RUN_SECONDS = 900


async def run_once(name: str, variant: Variant, tools: Tools) -> Outcome | None:
    """One run, one line; what the programs said below it if it failed."""
    begin = time.monotonic()
    logs = ""
    try:
        async with asyncio.timeout(RUN_SECONDS), scene(variant, tools) as stage:
            try:
                outcome = await SCENARIOS[name](stage)
            except BaseException:
                logs = stage.logs()
                raise
    except (Failure, OSError, EOFError) as failure:
        reason = str(failure) or type(failure).__name__
        print(f"FAILED {name} ({variant}): {reason}", logs, sep="\n", flush=True)
        return None
    seconds = time.monotonic() - begin
    print(f"ok {name} ({variant}; {seconds:.1f} s): {outcome.told}", flush=True)
    return outcome


async def run_all(runs: list[tuple[str, Variant]], tools: Tools) -> int:
    """Runs one after the other, and counts."""
    passed = 0
    for name, variant in runs:
        passed += await run_once(name, variant, tools) is not None
    print(f"{passed} passed, {len(runs) - passed} failed", flush=True)
    return 0 if passed == len(runs) else 1


async def run_latency(variants: list[Variant], rounds: int, tools: Tools) -> int:
    """Compares who serves a missing page how fast, for each variant."""
    for variant in (replace(each, paced=False) for each in variants):

        async def run(scenario: str, variant: Variant = variant) -> float | None:
            outcome = await run_once(scenario, variant, tools)
            if outcome is None:
                raise Failure(f"{scenario} failed")
            return outcome.fault_us

        try:
            print(f"({variant}, {rounds} rounds)\n{await compare(rounds, run)}", flush=True)
        except Failure as failure:
            print(f"FAILED latency ({variant}): {failure}", flush=True)
            return 1
    return 0


async def cancellable(work: Coroutine[Any, Any, int]) -> int:
    """Lets SIGTERM end a run as Ctrl-C does: with everything put back."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def postcopy_binary(given: str | None) -> Path | None:
    """The binary that was asked for, or else the newest that was built here."""
    if given:
        return Path(given).resolve()
    top = Path(__file__).resolve().parent.parent.parent
    built = [top / ".build" / kind / "postcopy" for kind in ("release", "debug")]
    found = [path for path in built if path.exists()]
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "scenario", choices=[*SCENARIOS, "latency", "all"],
        help="latency: who serves a missing page how fast; all: the runs that a change must pass",
    )  # fmt: skip
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="runs of each variant")
    parser.add_argument("--preempt", choices=["off", "on", "both"], default="both")
    parser.add_argument("--memory", type=int, nargs="+", default=[256], metavar="MIB")
    parser.add_argument(
        "--switch-after", type=float, nargs="+", default=[0.1], metavar="SECONDS",
        help="from the migration's start to the switch to postcopy",
    )  # fmt: skip
    parser.add_argument("--machine", nargs="+", default=["pc"], help="such as pc, q35")
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=["plain"])
    parser.add_argument("--precopy", action="store_true", help="no switch to postcopy")
    parser.add_argument("--random", action="store_true", help="the guest goes in random order")
    parser.add_argument("--hold", action="store_true", help="relay only what is here wholly")
    parser.add_argument("--damage", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument(
        "--breaks", nargs="+", choices=BREAKS, default=["cut", "cut"],
        help="how the link ends each time, in a recovery: reset, migrate-pause, postcopy pause",
    )  # fmt: skip
    parser.add_argument("--touch-threads", type=int, default=2, metavar="N")
    parser.add_argument("--postcopy", default=os.environ.get("POSTCOPY"), metavar="PATH")
    parser.add_argument("--qemu", default="qemu-system-x86_64", metavar="PATH")
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat: at least 1")
    return options


def chosen(options: argparse.Namespace) -> list[Variant]:
    """Every combination that was asked for and makes a difference."""
    preempts = {"off": [False], "on": [True], "both": [False, True]}[options.preempt]
    damages = options.damage
    if options.precopy or options.scenario == "damage_is_found":
        preempts = [False]
    if options.scenario != "damage_is_found":
        damages = [None]
    return [
        Variant(
            preempt=preempt,
            mebibytes=memory,
            switch_after=after,
            machine=machine,
            layout=layout,
            precopy=options.precopy,
            random=options.random,
            touch_threads=options.touch_threads,
            hold=options.hold,
            damage=damage,
            breaks=tuple(options.breaks) if options.scenario in RECOVERIES else (),
        )
        for memory, machine, layout, after, preempt, damage in itertools.product(
            options.memory,
            options.machine,
            options.layout,
            options.switch_after,
            preempts,
            damages,
        )
    ]


def main() -> int:
    options = parse()
    try:
        variants = chosen(options)
    except ValueError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    tools = Tools(options.qemu, postcopy_binary(options.postcopy))
    if options.scenario == "latency":
        work = run_latency(variants, options.repeat, tools)
    elif options.scenario == "all":
        work = run_all(list(SUITE) * options.repeat, tools)
    else:
        runs = [(options.scenario, variant) for variant in variants]
        work = run_all(runs * options.repeat, tools)
    try:
        return asyncio.run(cancellable(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
