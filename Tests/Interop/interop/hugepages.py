"""Huge pages, taken from the kernel for a while and given back."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from .failure import Failure

_COUNT = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
# What everybody locks who changes the pool for a while.
_LOCK = Path("/proc/sys/vm/nr_hugepages")


@contextlib.contextmanager
def reserved_huge_pages(count: int) -> Iterator[None]:
    """Adds `count` pages of 2 MiB to the pool of the system, and takes them out again.

    The pool is everybody's: it is changed by a difference, never set back to what it once was.
    """
    if count == 0:
        yield
        return
    with _LOCK.open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = int(_COUNT.read_text())
        try:
            _COUNT.write_text(str(before + count))
        except OSError as error:
            raise Failure(f"{_COUNT}: {error.strerror}: run as root") from error
        try:
            reserved = int(_COUNT.read_text()) - before
            if reserved < count:
                raise Failure(
                    f"the kernel gave {reserved} of {count} huge pages: memory is scattered"
                )
            yield
        finally:
            now = int(_COUNT.read_text())
            _COUNT.write_text(str(max(0, now - count)))
