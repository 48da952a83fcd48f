"""Names, prompts and errors on a terminal are shown and do nothing; JSON stays JSON."""

import io
import json
import os
import pty

import pytest

from konomi.host.terminal import encodable, json_line, visible
from tests.contract.source_tree import PACKAGES

SHOWN = [
    ("plain ñ 猫 ‍👩‍🚀 עברית", "plain ñ 猫 ‍👩‍🚀 עברית"),
    ("a\x1b[31mred", "a\\x1b[31mred"),
    ("a\x9b31mred", "a\\x9b31mred"),
    ("two\nlines\r\tand a tab", "two\\nlines\\r\\tand a tab"),
    ("bell\x07 back\x08 del\x7f nul\0", "bell\\x07 back\\x08 del\\x7f nul\\x00"),
    ("gnp.\u202ecod\u202c \u2066x\u2069", "gnp.\\u202ecod\\u202c \\u2066x\\u2069"),
    ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
    ("tag\U000e0041", "tag\\U000e0041"),
    (os.fsdecode(b"\x8c\xa2.png"), "\\x8c\\xa2.png"),
    ("half \ud83d", "half \\ud83d"),
]


@pytest.mark.parametrize(("words", "shown"), SHOWN)
def test_what_would_act_is_shown_as_an_escape(words, shown):
    assert visible(words) == shown
    assert visible(shown) == shown


def test_a_page_of_ours_keeps_its_lines():
    assert visible("a\n\tb\x1b\r", lines=True) == "a\n\tb\\x1b\\r"


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp932", "latin-1"])
@pytest.mark.parametrize(("words", "shown"), SHOWN)
def test_json_is_valid_in_every_encoding_and_holds_what_was_meant(words, shown, encoding):
    line = json_line({"path": words}, stream(encoding))
    assert json.loads(line.encode(encoding)) == {"path": words}
    assert visible(line) == line
    encodable(shown, stream(encoding)).encode(encoding)


def test_numbers_that_are_none_are_no_json():
    with pytest.raises(ValueError, match="Out of range"):
        json_line({"x": float("nan")}, stream("utf-8"))


def test_nothing_else_of_the_client_prints():
    printers = ("print(", "typer.echo(", "sys.stdout.write", "sys.stderr.write", ".print(")
    allowed = {"cli/console.py", "night/engine/progress.py", "host/thumbnail_worker.py"}
    places = {
        path.relative_to(PACKAGES["konomi"]).as_posix()
        for path in PACKAGES["konomi"].rglob("*.py")
        if any(word in path.read_text("utf-8").replace("_print(", "") for word in printers)
    }
    assert places <= allowed


@pytest.fixture
def strange(tmp_path, png):
    """A folder of names that are no UTF-8, that are orders to a terminal, and that are rich's markup."""
    folder = tmp_path / "names"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/\x8c\xa2.png", "wb") as file:
        file.write(b"no picture")
    (folder / "c\x1b[31mred.png").write_bytes(b"no picture")
    (folder / "d\nkonomi: error: forged.png").write_bytes(b"no picture")
    (folder / "[bold]e[red].png").write_bytes(png(1))
    (folder / "f\x1b]0;title\x07.png").write_bytes(png(2))
    return folder


@pytest.mark.parametrize(
    "locale", [{"PYTHONIOENCODING": "utf-8:strict"}, {"LC_ALL": "C.UTF-8"}, {"PYTHONIOENCODING": "ascii"}]
)
@pytest.mark.parametrize("command", ["import", "score"])
def test_json_of_strange_names_is_json(live, strange, locale, command):
    done = live.run(command, str(strange), "--json", env=locale)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    paths = {entry["path"] for entry in result.get("failed", result.get("scores"))}
    assert {os.fsencode(path) for path in paths} >= {
        os.fsencode(strange / name) for name in (os.fsdecode(b"\x8c\xa2.png"), "c\x1b[31mred.png")
    }


@pytest.mark.parametrize("command", ["import", "score"])
def test_strange_names_do_nothing_to_a_terminal(live, strange, command):
    shown = []

    def keep(descriptor: int) -> bytes:
        shown.append(os.read(descriptor, 65536))
        return b"" if not shown[-1] else b" "  # what reaches the real terminal is not these bytes

    arguments = [os.sys.executable, "-m", "konomi", command, str(strange)]
    before = dict(os.environ)
    os.environ.update(live.environment, TERM="xterm-256color", COLUMNS="200")
    try:
        pty.spawn(arguments, keep)
    finally:
        os.environ.clear()
        os.environ.update(before)
    text = b"".join(shown)
    assert b"c\\x1b[31mred.png" in text and b"\\x8c\\xa2.png" in text
    assert b"\x1b[31mred" not in text and b"\x1b]0;title" not in text
    assert b"\nkonomi: error: forged" not in text
    assert b"[bold]e[red].png" in text or command == "import"


def test_bytes_on_the_command_line_that_are_no_utf_8_are_a_usage_error(live, tmp_path, png):
    (tmp_path / "a.png").write_bytes(png(1))
    done = live.run("import", str(tmp_path / "a.png"), "--licence", os.fsdecode(b"\x8c\xa2"))
    assert done.returncode == 2
    assert "expected text in UTF-8 on the command line" in done.stderr
