"""`konomi label` on a terminal: single keys without Enter, a preview, the terminal as it was afterwards."""

import os
import pty
import subprocess
import sys
import termios
import threading

import pytest

from tests.client.stand_in import wait_until


class Screen:
    """Reads what a terminal shows, all the time, so that nothing ever waits for it."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.shown = ""
        self.seen = 0
        threading.Thread(target=self.drain, daemon=True).start()

    def drain(self):
        while True:
            try:
                self.shown += os.read(self.descriptor, 65536).decode(errors="replace")
            except OSError:
                return

    def wait(self, words):
        """Waits until the words were shown once more than before."""
        assert wait_until(lambda: words in self.shown[self.seen :], 30), self.shown[self.seen :]
        self.seen = self.shown.index(words, self.seen) + len(words)


@pytest.mark.timeout(120)
def test_single_keys(command_line, tmp_path, png):
    process, _ = command_line.up()
    for shade in range(3):
        (tmp_path / f"{shade}.png").write_bytes(png(shade))
    command_line.json("import", *(str(tmp_path / f"{shade}.png") for shade in range(3)))
    terminal, inside = pty.openpty()
    before = termios.tcgetattr(inside)
    label = subprocess.Popen(
        [sys.executable, "-m", "konomi", "label", "--terminal"],
        env=command_line.environment,
        stdin=inside,
        stdout=subprocess.PIPE,
        stderr=inside,
        text=True,
    )
    screen = Screen(terminal)
    screen.wait("q quit")
    screen.wait("▀")  # Pillow is installed here, so the image is drawn
    screen.wait("image ")
    os.write(terminal, b"5")
    screen.wait("image ")
    os.write(terminal, b"?")
    screen.wait("q quit")
    screen.wait("image ")
    os.write(terminal, b"2")
    screen.wait("image ")
    os.write(terminal, b"q")
    out, _ = label.communicate(timeout=30)
    assert out == "2 graded, 0 undone, 0 skipped\n"
    assert termios.tcgetattr(inside) == before
    os.close(terminal)
    os.close(inside)
    process.terminate()
    process.wait(timeout=20)
