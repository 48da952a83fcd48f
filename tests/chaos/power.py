"""Power cuts: an ext4 image on a loop device, copied while its writer stands still, mounted again and looked at.

What the writer had not synced is in the kernel's cache and not in the image, as after a cut. The writer is forked, says
what it acknowledges on a pipe, and stops itself after a chosen acknowledgement, so that no later sync helps.
"""

import os
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MEBIBYTES = 16


def usable() -> bool:
    """Says whether this machine lets the test mount an image."""
    tools = all(shutil.which(tool) for tool in ("mkfs.ext4", "mount", "umount"))
    return tools and os.geteuid() == 0 and Path("/dev/loop-control").exists()


class Disk:
    """An ext4 image in memory; every cut begins with an empty one."""

    def __init__(self, folder: Path) -> None:
        """Makes the empty image; `folder` should lie in memory, since every sync writes to it."""
        self._folder, self._empty = folder, folder / "empty.img"
        self._image, self._copy, self._cuts = folder / "disk.img", folder / "copy.img", 0
        with self._empty.open("wb") as file:
            file.truncate(MEBIBYTES << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self._empty], check=True)

    def cut(self, writers: list[Callable[[Path, Callable[[str], None]], None]]) -> list[str]:
        """Runs writers one after another on an empty disk, then cuts the power.

        Each is forked and given the disk's folder and the word to acknowledge with. All but the last may end however
        they do; the last one stops itself (SIGSTOP) or ends.

        Returns:
            What the last one acknowledged; `after` shows what is left.
        """
        # A loop device may outlive its umount for a moment and show the old content of a file of the same name.
        for used in (self._image, self._copy):
            used.unlink(missing_ok=True)
        self._cuts += 1
        self._image, self._copy = (self._folder / f"{name}-{self._cuts}.img" for name in ("disk", "copy"))
        shutil.copyfile(self._empty, self._image)
        with self._mounted(self._image) as place:
            for writer in writers[:-1]:
                self._run(writer, place)
            said = self._run(writers[-1], place, keep=True)
        return said

    @contextmanager
    def after(self) -> Iterator[Path]:
        """Mounts what was on the disk when the power went."""
        with self._mounted(self._copy) as place:
            yield place

    def _run(self, writer: Callable[[Path, Callable[[str], None]], None], place: Path, keep: bool = False) -> list[str]:
        reader, pipe = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                writer(place, lambda word: (os.write(pipe, f"{word}\n".encode()), None)[1])
                code = 0
            except BaseException:  # noqa: BLE001  a forked child has no one else to tell
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(pipe)
        _, status = os.waitpid(child, os.WUNTRACED)
        if keep:
            shutil.copyfile(self._image, self._copy)
        if os.WIFSTOPPED(status):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        elif keep and os.waitstatus_to_exitcode(status):
            raise AssertionError(f"the writer ended with {os.waitstatus_to_exitcode(status)}")
        with os.fdopen(reader) as answers:
            return answers.read().split("\n")[:-1]

    @contextmanager
    def _mounted(self, image: Path) -> Iterator[Path]:
        place = self._folder / f"{image.stem}.mount"
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)


def stop() -> None:
    """Stands still at once, as at the moment of a cut."""
    os.kill(os.getpid(), signal.SIGSTOP)
