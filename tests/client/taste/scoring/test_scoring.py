"""`konomi score` on many files: killed or stopped, the same command goes on; bad files are their own errors."""

import json
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from konomi.datasets.media import ImageFile
from konomi.errors import NotFound
from konomi.i18n.catalogue import speaking, text
from konomi.taste.scoring import ScoreJournal, ScoreRun, checksum


@pytest.fixture
def many(tmp_path, png) -> Path:
    """A folder of 400 images, two of them broken."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number:03}.png").write_bytes(png(number % 256, f"image {number}"))
    (folder / "007.png").write_text("neither")
    (folder / "395.png").write_text("no image at all")
    return folder


def journals(home: Path) -> list[Path]:
    return list((home / "run" / "scores").glob("*.jsonl"))


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_what_was_scored_before_it_ended_is_not_scored_again(live, many, signal_number):
    process = live.start("score", str(many), "--json")
    end = time.monotonic() + 60
    while not any(b"\n" in path.read_bytes() for path in journals(live.home)):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=60)
    (journal,) = journals(live.home)
    if signal_number == signal.SIGINT and process.returncode != 1:
        assert process.returncode == 130 and "goes on" in err and not out.strip()
    marked = [json.loads(line) for line in journal.read_bytes().split(b"\n")[:-1]]  # a kill may cut the last one
    assert marked
    for entry in marked:
        if "score" in entry["result"]:
            entry["result"]["score"]["novelty"] = 1.25  # only a score taken over from the journal can say so
        entry["crc32"] = checksum({name: value for name, value in entry.items() if name != "crc32"})
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in marked) + '{"path": "cut off')
    done = live.run("score", str(many), "--json")
    assert done.returncode == 1
    scores = json.loads(done.stdout.splitlines()[-1])["scores"]
    assert [Path(entry["path"]).name for entry in scores] == [f"{number:03}.png" for number in range(400)]
    taken = [entry for entry in scores if entry.get("novelty") == 1.25]
    assert len(taken) == sum("score" in entry["result"] for entry in marked)
    assert {Path(entry["path"]).name for entry in scores if "error" in entry} == {"007.png", "395.png"}
    assert not journals(live.home), "a finished command leaves nothing behind"


@pytest.mark.slow
def test_a_journal_is_only_believed_for_the_same_bytes_and_version(tmp_path):
    first = ScoreJournal(tmp_path, "default", [tmp_path / "a"])
    first.add("a/1.png", "d1", "v1", {"score": {"utility": 3.0}})
    first.add("a/2.png", "d2", "", {"error": {"reason": "IMAGE_TYPE"}})
    first.close(finished=False)
    again = ScoreJournal(tmp_path, "default", [tmp_path / "a"])
    assert again.find("a/1.png", "d1", "v1") == {"score": {"utility": 3.0}}
    assert again.find("a/1.png", "other", "v1") is None
    assert again.find("a/1.png", "d1", "v2") is None
    assert again.find("a/2.png", "d2", "v2") == {"error": {"reason": "IMAGE_TYPE"}}
    assert ScoreJournal(tmp_path, "other", [tmp_path / "a"]).find("a/1.png", "d1", "v1") is None
    again.close(finished=True)
    assert ScoreJournal(tmp_path, "default", [tmp_path / "a"]).entries == {}


@pytest.mark.slow
def test_a_damaged_line_of_a_journal_is_asked_for_again(tmp_path):
    paths = [tmp_path / "a"]
    journal = ScoreJournal(tmp_path / "scores", "default", paths)
    for number in range(3):
        journal.add(f"a/{number}.png", f"d{number}", "v1", {"score": {"utility": number + 0.25}})
    journal.close(finished=False)
    (file,) = (tmp_path / "scores").iterdir()
    whole = file.read_bytes()
    for place in range(len(whole) * 8):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        file.write_bytes(broken)
        again = ScoreJournal(tmp_path / "scores", "default", paths)
        for number in range(3):
            entry = again.find(f"a/{number}.png", f"d{number}", "v1")
            assert entry in (None, {"score": {"utility": number + 0.25}})
        assert sum(again.find(f"a/{number}.png", f"d{number}", "v1") is not None for number in range(3)) >= 1
        again.close(finished=False)


def test_the_thread_that_asks_speaks_the_readers_language(tmp_path, png):
    def score_images(**_):
        raise NotFound(text("there is no unfinished night"))

    rater = SimpleNamespace(get_rater_version=lambda **_: SimpleNamespace(name="v"), score_images=score_images)
    with speaking("ja"):
        journal = ScoreJournal(tmp_path, "default", [tmp_path])
        run = ScoreRun(SimpleNamespace(rater=rater), "default", journal, threading.Event())
        with pytest.raises(NotFound, match="終わっていない夜はありません"):
            list(run.score(iter([ImageFile("a.png", png(1, "a"))])))
