"""Runs the command on a pseudo-terminal, reads the terminal as pyte does, and says what is wrong.

    live_view.py ROWS COLUMNS RESIZED-COLUMNS keep|reflow|interrupt PROGRAM ARGUMENT...

On the way the terminal is resized: one kind of terminal cuts or keeps its lines, the other wraps them
anew. Or somebody interrupts the command, which then has to end with 130. Prints `good: FRAMES frames` and ends with 0, or with the first thing that is wrong.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pyte

SECONDS_MAX = 60
# Of those that come before the resize.
FRAMES_BEFORE = 8
FRAME_BEGIN = b"\x1b[?25l"
FRAME_END = b"\x1b[?25h"


def fail(text, screen=None):
    print(f"bad: {text}")
    if screen is not None:
        print("\n".join(f"|{row}|" for row in everything(screen)))
    sys.exit(1)


def everything(screen):
    """What was scrolled out of the screen, and the screen."""
    above = ["".join(row[x].data for x in sorted(row)) for row in screen.history.top]
    return [row.rstrip() for row in above + list(screen.display)]


def new_screen(columns, rows):
    return pyte.HistoryScreen(columns, rows, history=1000)


def reflowed(screen, columns, rows):
    """The screen of a terminal that wraps its lines anew and keeps the cursor at its character."""
    new = new_screen(columns, rows)
    stream = pyte.Stream(new)
    pieces, cursor = [], 0
    last = max([y for y, row in enumerate(screen.display) if row.strip()] + [screen.cursor.y])
    for y, row in enumerate(screen.display[: last + 1]):
        text = row.rstrip()
        if y == screen.cursor.y:
            cursor = len(pieces) + screen.cursor.x // columns
        pieces += [text[x : x + columns] for x in range(0, len(text), columns)] or [""]
    for number, piece in enumerate(pieces):
        stream.feed(("" if number == 0 else "\r\n") + piece)
    new.cursor.y = cursor - max(0, len(pieces) - rows)
    new.cursor.x = screen.cursor.x % columns
    new.history.top.extendleft(reversed(screen.history.top))
    return new


def main():
    rows, columns, resized = (int(word) for word in sys.argv[1:4])
    reflows, interrupts = sys.argv[4] == "reflow", sys.argv[4] == "interrupt"
    master, slave = pty.openpty()

    def tell_size(width):
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, width, 0, 0))

    tell_size(columns)
    process = subprocess.Popen(
        sys.argv[5:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave
    )
    screen = new_screen(columns, rows)
    stream = pyte.ByteStream(screen)
    frames, is_resized, is_settled = 0, False, True
    headlines_most, all_bytes, pending = 0, b"", b""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        if time.monotonic() > deadline:
            process.kill()
            fail("it did not end", screen)
        ready, _, _ = select.select([master], [], [], 0.05)
        if ready:
            pending += os.read(master, 1 << 16)
        elif process.poll() is not None:
            break
        # Frame by frame, so that each is looked at as it stands.
        while FRAME_END in pending:
            end = pending.find(FRAME_END) + len(FRAME_END)
            chunk, pending = pending[:end], pending[end:]
            all_bytes += chunk
            stream.feed(chunk)
            frames += 1
            shown = [row.rstrip() for row in screen.display]
            # Frames may be on their way that were drawn for the width before.
            fits = all(len(row) < screen.columns for row in shown[screen.cursor.y :])
            if is_settled and not fits:
                fail("a line reaches the last column", screen)
            is_settled = is_settled or fits
            height = chunk[chunk.rfind(FRAME_BEGIN) :].count(b"\n") + 1
            if any(shown[screen.cursor.y + height :]):
                fail("something is left below the frame", screen)
            headlines = sum(1 for row in everything(screen) if re.search(r"^[a-z-]+.* \d+%", row))
            if headlines > 1:
                fail("an older frame is still there", screen)
            headlines_most = max(headlines_most, headlines)
            if screen.cursor.hidden:
                fail("the cursor is hidden between two frames", screen)
            if frames == FRAMES_BEFORE and interrupts:
                process.send_signal(signal.SIGINT)
            if frames == FRAMES_BEFORE and resized != columns:
                is_resized, is_settled = True, False
                tell_size(resized)
                if reflows:
                    screen = reflowed(screen, resized, rows)
                else:
                    screen.resize(rows, resized)
                stream = pyte.ByteStream(screen)
    all_bytes += pending
    stream.feed(pending)
    text = everything(screen)
    if process.returncode != (130 if interrupts else 0):
        fail(f"it ended with {process.returncode}", screen)
    if frames < FRAMES_BEFORE or headlines_most == 0 or not is_settled:
        fail(f"only {frames} frames", screen)
    if any(re.search(r"%|pages (left|missing)|requests|vCPUs? wait|8s$", row) for row in text):
        fail("rubbish is left", screen)
    if os.environ.get("NO_COLOR") and re.search(rb"\x1b\[[0-9;]*m", all_bytes):
        fail("there are colours")
    if not os.environ.get("NO_COLOR") and not re.search(rb"\x1b\[1m", all_bytes):
        fail("there are no colours")
    if os.environ.get("LC_ALL") == "C" and any(byte > 0x7F for byte in all_bytes):
        fail("there is more than ASCII")
    print(f"good: {frames} frames")


main()
