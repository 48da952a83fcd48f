"""The README's examples, run as they stand there against a live rater; both languages say the same."""

import colorsys
import importlib.util
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.contract.source_tree import ROOT

ADDRESS = "127.0.0.1:50051"
TOKEN_HOME = ".local/share/konomi"
LANGUAGES = ("README.md", "README.ja.md")


def blocks(readme: str, language: str) -> list[str]:
    """Returns the fenced blocks of one language in a README."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / readme).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def python_example(readme: str) -> str:
    (block,) = blocks(readme, "python")
    return block


def buf_line(readme: str) -> str:
    (block,) = [block for block in blocks(readme, "sh") if "buf curl" in block]
    return block


def test_the_python_example_has_six_lines_and_both_languages_the_same():
    assert len(python_example("README.md").splitlines()) == 6
    assert python_example("README.md") == python_example("README.ja.md")
    assert buf_line("README.md") == buf_line("README.ja.md")


def test_the_first_screen_links_both_languages_and_names_the_two_commands():
    for readme, other in (LANGUAGES, LANGUAGES[::-1]):
        first_screen = (ROOT / readme).read_text("utf-8").splitlines()[:24]
        assert f"({other})" in first_screen[0]
        assert [line.split()[:2] for line in first_screen if line.startswith("make ")] == [
            ["make", "demo"],
            ["make", "test"],
        ]


def test_a_table_that_drifted_from_what_was_filed_is_named_and_made_anew(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("figures", ROOT / ".ci/figures.py")
    assert spec and spec.loader
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    (tmp_path / figures.DEMO).parent.mkdir(parents=True)
    for name in (*LANGUAGES, figures.DEMO):
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    assert figures.main("check", tmp_path) == 0
    text = (tmp_path / "README.ja.md").read_text("utf-8")
    (tmp_path / "README.ja.md").write_text(text.replace("| 201 |", "| 999 |"), "utf-8")
    assert figures.main("check", tmp_path) == 1 and "README.ja.md" in capsys.readouterr().err
    assert figures.main("update", tmp_path) == 0 and (tmp_path / "README.ja.md").read_text("utf-8") == text


def test_grpcurl_is_told_the_same_call():
    (grpcurl,) = [block for block in blocks("README.md", "sh") if "grpcurl" in block]
    body, method = r"printf '.*?' .*?\|", r"konomi\.v1\.RaterService/\w+"
    for pattern in (body, method, r'-H "[^"]*\$\([^)]*\)"', re.escape(ADDRESS)):
        assert re.search(pattern, grpcurl)[0] == re.search(pattern, buf_line("README.md"))[0]


@pytest.mark.parametrize("readme", LANGUAGES)
def test_every_file_a_readme_links_exists(readme: str):
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / readme).read_text("utf-8"))
    assert links
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def portrait(rng: random.Random) -> tuple[bytes, float]:
    """Returns a drawn face as PNG and its hue, 0..1: the hue is what this person grades by."""
    hue = rng.random()
    red, green, blue = (int(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, 0.9))
    picture = Image.new("RGB", (64, 64), (red, green, blue))
    draw = ImageDraw.Draw(picture)
    left, top = rng.randrange(12, 20), rng.randrange(12, 20)
    draw.ellipse((left, top, left + 32, top + 36), fill=(240, 200, 170))
    draw.line((left + 10, top + 26, left + 22, top + 26), fill=(90, 30, 30), width=2)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue(), hue


@dataclass(frozen=True)
class Shell:
    """Where the examples run: a folder with portrait.png in it, and an address for them.

    Attributes:
        folder: working folder; a clone as far as `proto/` goes.
        environment: HOME and PATH as a user would have them.
        address: of the live rater; the README's own wherever that port is free.
    """

    folder: Path
    environment: dict[str, str]
    address: str

    def run(self, *command: str, example: str) -> str:
        """Runs an example as it stands, its address aside where the port was taken."""
        text = example.replace(ADDRESS, self.address)
        done = subprocess.run(
            [*command, text],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def port_to_ask_for() -> int:
    """Returns the README's port where it is free, else 0 for any."""
    port = int(ADDRESS.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def grade_and_fit(home: Path, address: str) -> None:
    """Grades forty drawn faces by hue and fits a rater version on them."""
    import konomi
    from konomi.v1 import rater_pb2 as r

    rng = random.Random(7)
    with konomi.connect(address, home=home) as client:
        client.rater.ensure_taste("default")
        faces = [portrait(rng) for _ in range(40)]
        digests = [client.artifacts.put(data, "image/png").digest for data, _ in faces]
        images = (
            r.AddImagesRequest(taste="tastes/default", image=r.Image(digest=digest, source=r.SOURCE_IMPORTED))
            for digest in digests
        )
        assert not [reply for reply in client.rater.add_images(images) if reply.HasField("error")]
        grades = [min(5, 1 + int(hue * 5)) for _, hue in faces]
        labels = [r.Label(image_digest=d, grade=grade) for d, grade in zip(digests, grades, strict=True)]
        client.rater.record_labels(taste="tastes/default", labels=labels)
        *_, last = client.rater.fit_rater(taste="tastes/default")
        assert last.rater_version.name


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A live rater on the default home of a made-up user, with forty grades and a fitted version."""
    user = tmp_path_factory.mktemp("user")
    home = user / TOKEN_HOME
    folder = user / "clone"
    folder.mkdir()
    (folder / "proto").symlink_to(ROOT / "proto")
    (folder / "portrait.png").write_bytes(portrait(random.Random(1))[0])
    binaries = Path(sys.executable).parent
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("KONOMI_", "XDG_"))}
    environment |= {"HOME": str(user), "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(
        [sys.executable, "-m", "konomi_starter", "install", "--home", str(home)],
        env=environment,
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
    command = [sys.executable, "-m", "konomi_rater", "--home", str(home), "--port", str(port_to_ask_for())]
    log = user / "rater.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as server,
    ):
        try:
            line = server.stdout.readline()
            assert line, log.read_text()[-2000:]
            address = json.loads(line)["address"]
            grade_and_fit(home, address)
            yield Shell(folder, environment, address)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                assert server.wait(60) == 0, log.read_text()[-2000:]
            finally:
                server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("readme", LANGUAGES)
def test_the_python_example_runs(shell: Shell, readme: str):
    said = shell.run(sys.executable, "-c", example=python_example(readme))
    utility, std, share = re.fullmatch(
        r"grade (\d\.\d\d) of 5, give or take (\d\.\d\d); UR with (\d+)%\n", said
    ).groups()
    assert 1 <= float(utility) <= 5 and 0 <= float(std) < 2.5 and 0 <= int(share) <= 100


@pytest.mark.slow
@pytest.mark.parametrize("readme", LANGUAGES)
def test_the_buf_curl_line_runs_and_agrees_with_python(shell: Shell, readme: str):
    reply = json.loads(shell.run("bash", "-c", example=buf_line(readme)))
    (result,) = reply["results"]
    score = result["score"]
    assert sum(score["gradeProbabilities"]) == pytest.approx(1, abs=1e-6)
    assert score["raterVersion"].startswith("tastes/default/raterVersions/")
    said = shell.run(sys.executable, "-c", example=python_example(readme))
    assert said.startswith(f"grade {score['utility']:.2f} of 5")


@pytest.mark.slow
def test_without_the_token_the_same_line_is_refused(shell: Shell):
    line = re.sub(r'-H "[^"]*\$\([^)]*\)" ', "", buf_line("README.md")).replace(ADDRESS, shell.address)
    done = subprocess.run(
        ["bash", "-c", line], cwd=shell.folder, env=shell.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "unauthenticated" in done.stderr.lower()
