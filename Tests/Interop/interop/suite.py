"""The runs that every change must pass: each claim once, and short."""

from __future__ import annotations

from .scene import Variant

SUITE: tuple[tuple[str, Variant], ...] = (
    ("qemu_to_qemu", Variant()),
    ("qemu_to_qemu", Variant(preempt=True)),
)
