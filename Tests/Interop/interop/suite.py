"""The runs that every change must pass: each claim once, and short."""

from __future__ import annotations

from .damage import KINDS
from .scene import Variant

# Twice the length of a large huge page's run of pages, and still seconds to fill and to compare.
_LARGE = 2048

# Paced, so that pages are owed at every break.
_SMALL = 128

SUITE: tuple[tuple[str, Variant], ...] = (
    # First, that guest and harness are good for what they are used for.
    *(("damage_is_found", Variant(mebibytes=64, damage=kind)) for kind in KINDS),
    ("damage_is_found", Variant(mebibytes=64, damage="old", random=True)),
    ("qemu_to_qemu", Variant()),
    ("qemu_to_qemu", Variant(preempt=True)),
    # A QEMU's guest to us.
    ("qemu_to_us", Variant()),
    ("qemu_to_us", Variant(preempt=True)),
    ("qemu_to_us", Variant(switch_after=3)),
    ("qemu_to_us", Variant(switch_after=3, preempt=True, random=True)),
    ("qemu_to_us", Variant(mebibytes=_LARGE)),
    ("qemu_to_us", Variant(mebibytes=_LARGE, switch_after=3, preempt=True)),
    ("qemu_to_us", Variant(machine="q35", layout="several")),
    # QEMU 7.2 with preempt on now and then leaves a huge page unfinished: see README.md.
    ("qemu_to_us", Variant(layout="huge")),
    ("qemu_to_us", Variant(precopy=True)),
    # From us to a QEMU.
    ("us_to_qemu", Variant()),
    ("us_to_qemu", Variant(preempt=True)),
    ("us_to_qemu", Variant(machine="q35", layout="several", preempt=True)),
    ("us_to_qemu", Variant(layout="huge")),
    ("us_to_qemu", Variant(precopy=True)),
    ("us_to_us", Variant(preempt=True)),
    # Through us.
    ("relay", Variant()),
    ("relay", Variant(preempt=True, random=True)),
    ("relay", Variant(preempt=True, hold=True)),
    ("relay", Variant(machine="q35", layout="several", preempt=True)),
    ("relay", Variant(layout="huge")),
    ("evacuate", Variant(preempt=True)),
    # Over links that end, twice each.
    ("recover_from_qemu", Variant(mebibytes=_SMALL, breaks=("cut", "cut"))),
    ("recover_from_qemu", Variant(mebibytes=_SMALL, breaks=("qemu", "ours"), preempt=True)),
    # One thread: of a huge page whose request it was answering when the link broke, a QEMU 7.2 that
    # resumes sends the rest first and its beginning later. If another request waits, that page comes in
    # between, which QEMU's own destination refuses as well.
    (
        "recover_from_qemu",
        Variant(mebibytes=_SMALL, breaks=("cut", "cut"), layout="huge", touch_threads=1),
    ),
    ("recover_to_qemu", Variant(mebibytes=_SMALL, breaks=("cut", "cut"), preempt=True)),
    ("recover_to_qemu", Variant(mebibytes=_SMALL, breaks=("qemu", "ours"))),
)
