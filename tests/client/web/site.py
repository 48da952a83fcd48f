"""A page to test: a home with pictures, its process, links that open it, and a browser to look at it."""

import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image, ImageDraw

from konomi.client import connect_home
from konomi.home import Home
from konomi.v1 import rater_pb2 as rater
from konomi.web.auth import link

ROOT = Path(__file__).parents[3]
CHROMIUM = Path("/usr/bin/chromium")
TASTE = "tastes/default"


def until(page, expression: str, seconds: float = 60.0) -> None:
    """Waits until an expression holds in a page, whose policy forbids the eval that playwright would wait with."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > deadline:
            last = page.evaluate("document.getElementById('toast')?.textContent")
            raise AssertionError(f"never true: {expression}; the page's last message: {last!r}")
        page.wait_for_timeout(25)


def picture(seed: int, side: int = 64) -> bytes:
    """Returns a PNG of a few coloured shapes; another seed, another picture."""
    draw = random.Random(seed)

    def colour() -> tuple[int, int, int]:
        return draw.randrange(256), draw.randrange(256), draw.randrange(256)

    image = Image.new("RGB", (side, side), colour())
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = draw.randrange(side), draw.randrange(side)
        pen.ellipse((x - 14, y - 14, x + 14, y + 14), fill=colour())
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


class Site:
    """A home and what runs on it.

    Attributes:
        home: the home folder.
        address: "http://127.0.0.1:PORT", the same after a restart.
    """

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        self.log = root / "host.log"
        root.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts rater and page, and waits until both are up."""
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"KONOMI_HOME": str(self.home.root), "PYTHONPATH": path}
        command = [sys.executable, "-m", "tests.client.web.host", str(self.home.root), str(self.port)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()[-2000:]
        self.port = urlsplit(json.loads(line)["page"]).port or 0

    def stop(self) -> None:
        """Stops it as Ctrl-C does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=60)

    def kill(self) -> None:
        """Kills the client process at once, and waits until the home is free again."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._free()

    def kill_rater(self) -> None:
        """Kills the rater at once; the client then ends by itself."""
        assert self.process is not None
        raters = []
        for file in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
                pids = map(int, file.read_text().split())
                raters += [pid for pid in pids if b"konomi_rater" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        for pid in raters:
            os.kill(pid, signal.SIGKILL)
        assert raters
        self.process.wait(timeout=60)
        self._free()

    def _free(self) -> None:
        deadline = time.monotonic() + 30
        while self.home.is_up() and time.monotonic() < deadline:
            time.sleep(0.05)

    def fill(
        self, count: int, prompts: list[str] | None = None, unit: str = "base", first: int = 0, night: str = ""
    ) -> list[str]:
        """Makes pictures known to the taste and returns their digests."""
        with connect_home(self.home.root) as client:
            client.rater.ensure_taste("default")
            digests = [client.artifacts.put(picture(seed), "image/png").digest for seed in range(first, first + count)]
            images = [
                rater.Image(
                    digest=digest,
                    source=rater.SOURCE_SELF,
                    unit=unit,
                    night=night,
                    seed=place,
                    path=f"set {place % 3}/IMG_{first + place:04}.jpg",
                    prompt=(prompts or ["a picture"])[place % len(prompts or [""])],
                )
                for place, digest in enumerate(digests)
            ]
            replies = list(
                client.rater.add_images(rater.AddImagesRequest(taste=TASTE, image=image) for image in images)
            )
            refused = [reply.error.message for reply in replies if reply.HasField("error")]
            assert not refused, refused[0]
        return digests

    def link(self, view: str = "") -> str:
        """Returns a link that opens the page once."""
        return link(self.home, view)

    def labels(self, *, in_force: bool = False) -> list[rater.Label]:
        """Returns what the rater has on record."""
        with connect_home(self.home.root) as client:
            return list(client.rater.list_labels(taste=TASTE, page_size=1000, in_force=in_force).labels)
