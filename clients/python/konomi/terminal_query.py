"""Asks the terminal itself how it shows pictures, because the names terminals give themselves say little.

Kitty's documentation ("Querying support") says how: a question in its protocol, then one every terminal answers, the
primary device attributes; whoever answers only the second does not know kitty's pictures, and has a 4 among its
attributes where it knows sixels (DEC, "VT330/VT340 Programmer Reference Manual", DA1).
"""

import os
import re
import select
import time
from collections.abc import Mapping

from konomi.terminal_images import Way

QUESTION = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c"
KITTY_ANSWERS = b"\x1b_Gi=31;OK"
ATTRIBUTES = re.compile(rb"\x1b\[\?([0-9;]*)c")
SIXEL = b"4"

SECONDS = 1.0
"""A terminal that has not answered by then, for example because it is far away, gets blocks."""

MUTE = ("", "dumb", "linux")
"""Terminals that would print the question instead of answering it."""


def way_of(terminal: int, environment: Mapping[str, str], seconds: float = SECONDS) -> Way:
    """Returns how a terminal shows pictures.

    Args:
        terminal: descriptor of a terminal whose input is neither echoed nor held back until Enter.
        environment: of this process.
        seconds: how long to wait for an answer.
    """
    if environment.get("TERM", "") in MUTE:
        return Way.BLOCKS
    os.write(terminal, QUESTION)
    answer = b""
    deadline = time.monotonic() + seconds
    while (found := ATTRIBUTES.search(answer)) is None:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return Way.KITTY if KITTY_ANSWERS in answer else Way.BLOCKS
        answer += os.read(terminal, 1024)
    if KITTY_ANSWERS in answer:
        return Way.KITTY
    return Way.SIXEL if SIXEL in found[1].split(b";") else Way.BLOCKS
