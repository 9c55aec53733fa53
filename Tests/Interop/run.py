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
from dataclasses import replace
from pathlib import Path

try:
    import qemu.qmp
except ImportError:
    sys.exit("run.py: the QMP client is missing: pip install -r Tests/Interop/requirements.txt")

from interop.failure import Failure
from interop.scenarios import SCENARIOS
from interop.scene import LAYOUTS, Scene, Tools, Variant, scene
from interop.suite import SUITE

# Seconds for one run, above all deadlines within it that can follow each other.
RUN_SECONDS = 900


async def run_once(name: str, variant: Variant, tools: Tools) -> bool:
    """One run, one line; what the programs said below it if it failed."""
    begin = time.monotonic()
    stage: Scene | None = None
    logs = ""
    try:
        async with asyncio.timeout(RUN_SECONDS), scene(variant, tools) as stage:
            try:
                told = await SCENARIOS[name](stage)
            except BaseException:
                logs = stage.logs()
                raise
    except (Failure, OSError, EOFError, TimeoutError) as failure:
        told = f"{failure or type(failure).__name__}\n{logs}".strip()
        print(f"FAILED {name} ({variant}): {told}", flush=True)
        return False
    print(f"ok {name} ({variant}, {time.monotonic() - begin:.1f} s): {told}", flush=True)
    return True


async def run_all(runs: list[tuple[str, Variant]], tools: Tools) -> int:
    """Runs one after the other, and counts."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    passed = 0
    for name, variant in runs:
        passed += await run_once(name, variant, tools)
    print(f"{passed} passed, {len(runs) - passed} failed", flush=True)
    return 0 if passed == len(runs) else 1


def postcopy_binary(given: str | None) -> Path | None:
    """The binary that was asked for, or else the newest that was built here."""
    if given:
        return Path(given).resolve()
    top = Path(__file__).resolve().parent.parent.parent
    built = [top / ".build" / kind / "postcopy" for kind in ("release", "debug")]
    found = [path for path in built if path.exists()]
    return max(found, key=lambda path: path.stat().st_mtime) if found else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "scenario", choices=[*SCENARIOS, "all"], help="all: the runs that a change must pass"
    )
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
    parser.add_argument("--touch-threads", type=int, default=2, metavar="N")
    parser.add_argument("--postcopy", default=os.environ.get("POSTCOPY"), metavar="PATH")
    parser.add_argument("--qemu", default="qemu-system-x86_64", metavar="PATH")
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat: at least 1")
    tools = Tools(options.qemu, postcopy_binary(options.postcopy))
    if options.scenario == "all":
        runs = list(SUITE)
    else:
        preempts = {"off": [False], "on": [True], "both": [False, True]}[options.preempt]
        base = Variant(
            precopy=options.precopy,
            random=options.random,
            hold=options.hold,
            touch_threads=options.touch_threads,
        )
        runs = [
            (options.scenario, replace(base, preempt=preempt, mebibytes=memory, switch_after=after,
                                       machine=machine, layout=layout))
            for memory, machine, layout, after, preempt in itertools.product(
                options.memory, options.machine, options.layout, options.switch_after, preempts
            )
        ]  # fmt: skip
    try:
        return asyncio.run(run_all(runs * options.repeat, tools))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
