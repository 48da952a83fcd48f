"""Pictures in a terminal: what each protocol draws, and which one a terminal is found to speak."""

import base64
import io
import os
import pty
import random
import re
import threading
import time
import tty

import pytest
from PIL import Image

from konomi.cli.terminal import keys
from konomi.cli.terminal.pictures import QUESTION, SIDE, Way, blocks, draw, kitty, sixel, way_of

ATTRIBUTES = b"\x1b[?62;22c"
WITH_SIXEL = b"\x1b[?62;4;22c"
KITTY = b"\x1b_Gi=31;OK\x1b\\" + ATTRIBUTES
FINAL = b"\x1b[c"


def picture(width: int = 50, height: int = 33, kind: str = "PNG") -> bytes:
    """A picture of a few flat colours, and text that must never reach a terminal."""
    draw_of = random.Random(3)
    image = Image.new("RGB", (width, height), (12, 200, 90))
    for _ in range(6):
        box = [draw_of.randrange(width), draw_of.randrange(height)]
        image.paste(tuple(draw_of.randrange(256) for _ in range(3)), (*box, box[0] + 12, box[1] + 9))
    out = io.BytesIO()
    image.save(out, kind, comment=b"\x1b]0;owned\x07")
    return out.getvalue()


def read_sixels(sequence: str) -> Image.Image:
    """Reads sixels as a terminal does: registers, repeats, carriage returns, new bands."""
    head, body = re.fullmatch(r'\x1bPq"1;1;(\d+;\d+)(.*)\x1b\\', sequence, re.DOTALL).groups()
    width, height = (int(part) for part in head.split(";"))
    image, colours, at = Image.new("RGB", (width, height), (1, 2, 3)), {}, (0, 0)
    for token in re.finditer(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~])|(\$)|(-)", body):
        if token[1]:
            colours[int(token[1])] = tuple(round(int(token[part]) * 2.55) for part in (2, 3, 4))
        elif token[5]:
            ink = colours[int(token[5])]
        elif token[9]:
            at = (0, at[1])
        elif token[10]:
            at = (0, at[1] + 6)
        else:
            for _ in range(int(token[6] or 1)):
                bits = ord(token[7] or token[8]) - 63
                for row in (row for row in range(6) if bits >> row & 1):
                    image.putpixel((at[0], at[1] + row), ink)
                at = (at[0] + 1, at[1])
    return image


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of any channel of any pixel."""
    assert one.size == other.size
    return max(abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True))


@pytest.mark.parametrize("size", [(50, 33), (7, 6), (1, 1), (3, 20)])
def test_sixels_are_the_picture(size):
    data = picture(*size)
    assert difference(read_sixels(sixel(data)), Image.open(io.BytesIO(data)).convert("RGB")) <= 3


def test_a_large_picture_is_shrunk():
    shown = read_sixels(sixel(picture(900, 500)))
    assert shown.size == (SIDE, round(SIDE * 500 / 900))


def test_kitty_gets_the_picture_in_small_pieces_and_is_told_not_to_answer():
    data = picture(300, 200, "JPEG")
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty(data))
    assert "".join(f"\x1b_G{keys};{text}\x1b\\" for keys, text in pieces) == kitty(data)
    assert pieces[0][0].startswith("a=T,f=100,q=2,")
    assert [keys.endswith("m=1") for keys, _ in pieces] == [True] * (len(pieces) - 1) + [False]
    assert all(len(text) <= 4096 for _, text in pieces)
    sent = base64.b64decode("".join(text for _, text in pieces))
    assert difference(Image.open(io.BytesIO(sent)), Image.open(io.BytesIO(data)).convert("RGB")) == 0
    assert b"owned" not in sent


@pytest.mark.parametrize("way", Way)
def test_no_words_of_the_file_reach_the_terminal(way):
    assert "owned" not in draw(picture(), way)


def test_blocks_have_the_colours_of_the_image(png):
    lines = blocks(png(77, size=4), columns=4).split("\n")
    assert len(lines) == 2
    assert lines[0].startswith("\x1b[38;2;77;77;77;48;2;77;77;77m▀")


@pytest.fixture
def terminal():
    """Both ends of a terminal that holds no key back."""
    outside, inside = pty.openpty()
    tty.setraw(inside)
    yield outside, inside
    os.close(outside)
    os.close(inside)


def answering(outside: int, answer: bytes) -> threading.Thread:
    """Plays a terminal that answers once it was asked."""

    def play() -> None:
        heard = b""
        while not heard.endswith(FINAL):
            heard += os.read(outside, 1024)
        assert heard == QUESTION
        os.write(outside, answer)

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("answer", "way"), [(KITTY, Way.KITTY), (WITH_SIXEL, Way.SIXEL), (ATTRIBUTES, Way.BLOCKS), (b"\x1b[?4c", Way.SIXEL)]
)
def test_the_terminal_is_asked(terminal, answer, way):
    outside, inside = terminal
    thread = answering(outside, answer)
    assert way_of(inside, {"TERM": "xterm-256color"}, seconds=60) is way
    thread.join(5)


def test_a_terminal_that_never_answers_gets_blocks(terminal):
    assert way_of(terminal[1], {"TERM": "xterm"}, seconds=0.05) is Way.BLOCKS


@pytest.mark.parametrize("name", ["dumb", "linux", None])
def test_a_terminal_that_would_print_the_question_is_not_asked(terminal, name):
    assert way_of(terminal[1], {"TERM": name} if name else {}) is Way.BLOCKS
    os.write(terminal[1], b"!")
    assert os.read(terminal[0], 100) == b"!"


@pytest.mark.parametrize(
    "late", [WITH_SIXEL, KITTY, b"\x1b[A", b"\x1bOB", b"\x1b]11;rgb:1212/3434/5555\x1b\\", b"\x1b"]
)
def test_an_answer_that_comes_late_grades_nothing(terminal, late):
    outside, inside = terminal
    os.write(outside, late)
    time.sleep(0.2 if late == b"\x1b" else 0)  # a rest makes it the key itself
    pressed = [keys.pressed(inside)]
    if late == KITTY:
        pressed.append(keys.pressed(inside))
    os.write(outside, b"5")
    assert [*pressed, keys.pressed(inside)] == ["\x1b"] * len(pressed) + ["5"]
