"""Drives QEMU and the command `postcopy` against each other, with a guest that checks itself."""
