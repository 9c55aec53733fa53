"""Assembles `guest.s` for given parameters."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from .failure import Failure

PAGE = 4096
MEBIBYTE = 1 << 20

# Places that `guest.s` fixes.
PROGRAM = 0x7C00
STATE = 0x6000
LOWEST_FILLED = 0x100000
PARAMETERS_OFFSET = 16
PARAMETERS_MAGIC = b"PAGEWORK"
RESET_OFFSET = 0xFF00
FIRMWARE_BYTES = 0x10000

# Firmware reads a disk by cylinders; one of SeaBIOS's has 16 * 63 sectors, and there must be one.
DISK_BYTES = MEBIBYTE

# Firmware keeps tables and a disk's rings near the top of memory; a guest that overwrote the rings
# would be refused by its own disk at the destination.
FIRMWARE_TOP_BYTES = MEBIBYTE


@dataclass(frozen=True)
class GuestParameters:
    """The parameters of `guest.s`, in the order in which the guest keeps them."""

    fill_start: int
    fill_end: int
    hot_start: int
    hot_end: int
    random: int
    seed: int
    report_every: int
    cold_checks: int = 16
    delay: int = 0

    def __post_init__(self) -> None:
        for name in ("fill_start", "fill_end", "hot_start", "hot_end"):
            if getattr(self, name) % PAGE:
                raise ValueError(f"{name} is not page aligned")
        if not self.fill_start <= self.hot_start < self.hot_end <= self.fill_end:
            raise ValueError("the hot pages must be some of the filled ones")
        if self.fill_start < LOWEST_FILLED:
            raise ValueError(f"pages can be filled from {LOWEST_FILLED:#x} on")
        if self.fill_end > 3 << 30:
            raise ValueError("the guest reaches the lowest 3 GiB only")

    @property
    def hot_pages(self) -> int:
        return (self.hot_end - self.hot_start) // PAGE

    @property
    def line(self) -> str:
        """The first word of the guest's reports."""
        return "STEP" if self.random else "SWEEP"

    @classmethod
    def from_words(cls, words: tuple[int, ...]) -> GuestParameters:
        return cls(*words)

    @classmethod
    def word_count(cls) -> int:
        return len(fields(cls))

    def pattern(self, address: int) -> int:
        """The third word of the page at `address`."""
        return ((address ^ self.seed) * 0x9E3779B1) & 0xFFFFFFFF

    def as_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class GuestImages:
    """The same program twice: for a disk, and as firmware."""

    disk: Path
    firmware: Path


def assemble(parameters: GuestParameters, folder: Path) -> GuestImages:
    """Writes both images into `folder`."""
    source = Path(__file__).resolve().parent.parent / "guest.s"
    unit, linked = folder / "guest.o", folder / "guest.elf"
    symbols: list[str] = []
    for field, value in zip(fields(parameters), astuple(parameters)):
        symbols += ["--defsym", f"{field.name.upper()}={value:#x}"]
    _run("as", "--32", *symbols, "-o", str(unit), str(source))
    _run(
        "ld", "-m", "elf_i386", "--no-warn-rwx-segments", "-e", f"{PROGRAM:#x}",
        f"--section-start=.program={PROGRAM:#x}", f"--section-start=.reset={RESET_OFFSET:#x}",
        "-o", str(linked), str(unit),
    )  # fmt: skip
    parts: dict[str, bytes] = {}
    for section in ("program", "reset"):
        flat = folder / f"guest.{section}"
        _run("objcopy", "-O", "binary", "-j", f".{section}", str(linked), str(flat))
        parts[section] = flat.read_bytes()
    images = GuestImages(disk=folder / "guest.disk", firmware=folder / "guest.firmware")
    program, reset = parts["program"], parts["reset"]
    images.disk.write_bytes(program.ljust(DISK_BYTES, b"\0"))
    images.firmware.write_bytes(program.ljust(RESET_OFFSET, b"\0") + reset)
    if images.firmware.stat().st_size != FIRMWARE_BYTES:
        raise Failure("the reset code must end the firmware image")
    return images


def _run(*command: str) -> None:
    if shutil.which(command[0]) is None:
        raise Failure(f"{command[0]} is missing: install the package binutils")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise Failure(f"{command[0]}: {done.stderr.strip()}")
