"""`konomi population` and what `konomi rater show` says of it, against a real rater on a socket."""

import json
import os
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from konomi.cli.rater import population
from konomi.datasets.tally import Tally
from konomi.errors import InvalidArgument
from konomi.home import Home
from konomi.taste.bundle_format import BundleEntry, Manifest, sorted_entries, write_bundle
from konomi.taste.others_ratings import digests_of, read_others
from konomi.v1 import rater_pb2 as pb
from tests.rater.conftest import grades_of, png


@pytest.fixture
def home(home, models):
    """A home with a folder of models of its own: populations are kept in it."""
    (home / "models").unlink()
    (home / "models").mkdir()
    (home / "models" / "starter").symlink_to(models / "starter")
    return home


@pytest.fixture
def shell(rater):
    """Runs `konomi ARGUMENTS` on the rater's home."""
    home = Home(rater.home)

    def run(*arguments: object) -> subprocess.CompletedProcess:
        environment = {**os.environ, "KONOMI_HOME": str(rater.home), "LC_ALL": "C.UTF-8"}
        command = [sys.executable, "-m", "konomi", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)

    with home.held():
        home.up_file.write_text(json.dumps({"rater": rater.address}))
        yield run


@pytest.fixture
def photos(rater):
    """80 imported images with Japanese names, and how red each is."""
    taste, rng = rater.taste(), np.random.default_rng(5)
    liked, images = {}, []
    for number in range(80):
        red, green, blue = (int(value) for value in rng.integers(0, 255, 3))
        path = f"写真/赤{number:02}.png"
        digest = rater.put(png((red, green, blue), seed=number))
        images.append(pb.Image(digest=digest, source=pb.SOURCE_IMPORTED, path=path))
        liked[path] = (digest, red / 255 - 0.5 * green / 255)
    assert not any(answer.HasField("error") for answer in rater.add(taste, images))
    return liked


def written(photos, people: int = 12, sign: str = ";", mark: str = ",") -> str:
    """Ratings as a spreadsheet of another country writes them; one line is broken, two images are not at hand."""
    rng, lines = np.random.default_rng(0), [sign.join(["Worker ID", "File Name", "Score", "comment"])]
    for person in range(people):
        for path, (_, value) in photos.items():
            score = f"{value * 3 + 5 + 0.2 * rng.standard_normal():.2f}".replace(".", mark)
            lines.append(sign.join([f"花子{person}", path.replace("/", "\\"), score, ""]))
    lines += [sign.join(["花子0", "他/無い.png", "3", ""]), sign.join(["花子0", "other/none.png", "3", ""])]
    lines.append(sign.join(["花子0", "写真\\赤01.png", "gut", ""]))
    return "\r\n".join(lines)


def said(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_a_foreign_table_is_learnt_shown_used_and_removed(rater, shell, photos, tmp_path):
    table = tmp_path / "ratings.csv"
    table.write_bytes(written(photos).encode("cp932"))
    made = said(shell("population", "fit", table, "--consent", "CC-BY-4.0", "--name", "friends", "--json"))
    assert made["population"]["rater_count"] == 12 and made["population"]["image_count"] == 80
    assert made["absent"] == 2 and set(made["absent_images"]) == {"他/無い.png", "other/none.png"}
    assert [one["reason"] for one in made["unread"]] == ["RATING_UNREADABLE"]
    assert "line 964" in made["unread"][0]["message"]

    assert [one["name"] for one in said(shell("population", "list", "--json"))["populations"]] == [
        "populations/friends"
    ]
    shown = shell("population", "show", "friends")
    assert "12 people" in shown.stdout and "CC-BY-4.0" in shown.stdout and "花子" not in shown.stdout

    cuts = np.quantile([value for _, value in photos.values()], [0.3, 0.6, 0.82, 0.94])
    grades = {digest: 1 + int(np.searchsorted(cuts, value)) for digest, value in list(photos.values())[:20]}
    rater.label("tastes/default", grades)
    rater.fit("tastes/default")
    told = shell("rater", "show").stdout
    assert "what others like (friends): on 20 held-out labels srcc" in told
    assert said(shell("rater", "show", "--json"))["populations"][0]["srcc_without"] > 0

    assert shell("population", "remove", "friends").stdout.strip() == "removed: populations/friends"
    assert shell("population", "list").stdout == ""


def test_bundles_and_consented_tastes_are_heard_with_what_each_consent_says(rater, shell, library, tmp_path):
    paths = []
    for at, name in enumerate(("mika", "aoi")):
        taste, digests = rater.taste(name), library.digests[at * 20 : at * 20 + 60]
        rater.add(taste, [pb.Image(digest=d, source=pb.SOURCE_SELF, prompt=d, seed=1) for d in digests])
        rater.label(taste, grades_of(library, digests))
        paths.append(bundle(rater, taste, tmp_path / f"{name}.konomi"))
    ren = rater.taste("ren")
    rater.add(ren, [pb.Image(digest=d, source=pb.SOURCE_SELF, prompt=d, seed=1) for d in library.digests[:60]])
    rater.label(ren, grades_of(library, library.digests[:60]))
    words = [part for said in ("mika wrote", "aoi wrote", "ren signed") for part in ("--consent", said)]
    made = said(shell("population", "fit", *paths, "--from", "ren", *words, "--json"))["population"]
    assert [(one["kind"], one["consent"]) for one in made["sources"]] == [
        ("bundle", "mika wrote"), ("bundle", "aoi wrote"), ("taste", "ren signed"),
    ]  # fmt: skip
    assert made["rater_count"] == 3 and made["name"] == "populations/others"


def bundle(rater, taste: str, path):
    """Writes the rows of a taste as a bundle of nothing else; an undone and a changed grade are among them."""
    first = rater.call("ListLabels", pb.ListLabelsRequest(taste=taste, in_force=True)).labels[0]
    rater.label(taste, {first.image_digest: 6 - first.grade})
    rows = rater.stream("ExportTaste", pb.ExportTasteRequest(taste=taste))[0].artifact
    entries = sorted_entries([BundleEntry(rows.digest, rows.media_type, rows.size_bytes, "rows")])
    write_bundle(path, Manifest(taste, rows.digest, "", entries), lambda entry: [rater.store.get(entry.digest)])
    found = dict(read_others(path, Tally()).people[0])
    assert len(found) == 60 and found[first.image_digest] == 6 - first.grade
    return path


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("fit",), "expected files of ratings, or tastes with --from", 2),
        (("fit", "--from", "mika"), "expected --consent once, or once for each of 1 sources", 2),
        (("show", "nobody"), "found none called nobody", 1),
        (("remove", "nobody"), "found no populations/nobody", 1),
        (("fit", "none.csv", "--consent", "yes"), "expected a readable file of ratings at none.csv", 2),
    ],
)
def test_what_is_wrong_is_said(shell, arguments, words, code):
    done = shell("population", *arguments)
    assert words in " ".join(done.stderr.split()) and done.returncode == code, (done.stderr, done.returncode)


def test_lines_of_json_and_every_delimiter_read_alike(tmp_path):
    rows = [("a.png", "mika", "UR"), ("b.png", "mika", "3"), ("a.png", "aoi", "2.5")]
    want = [[("a.png", 5.0), ("b.png", 3.0)], [("a.png", 2.5)]]
    for sign in (",", ";", "\t", "|"):
        path = tmp_path / "table.txt"
        path.write_text(
            "\n".join([sign.join(("image", "rater", "rating")), *(sign.join(row) for row in rows)]), "utf-16"
        )
        assert [list(one) for one in read_others(path, Tally()).people] == want
    objects = "\n".join(json.dumps({"user": who, "score": value, "path": name}) for name, who, value in rows)
    (tmp_path / "lines.jsonl").write_text(f"\ufeff{objects}\nnot json\n", "utf-8")
    tally = Tally()
    assert [list(one) for one in read_others(tmp_path / "lines.jsonl", tally).people] == want
    assert tally.unread_counts["row"] == 1 and "line 4" in tally.unread[0].message


def test_a_file_without_the_columns_or_without_ratings_is_refused(tmp_path):
    for content, words in (("a,b,c\n1,2,3\n", "expected columns such as"), ("image,rater,rating\n", "found none")):
        (tmp_path / "x.csv").write_text(content, "utf-8")
        with pytest.raises(InvalidArgument, match=words):
            read_others(tmp_path / "x.csv", Tally())


def test_a_quote_that_is_never_closed_is_said_and_is_no_fault_of_konomi(tmp_path):
    lines = "\n".join(f"{number}.png,mika,3" for number in range(12_000))
    (tmp_path / "x.csv").write_text(f'image,rater,rating\n"broken.png,mika,3\n{lines}\n', "utf-8")
    with pytest.raises(InvalidArgument, match="expected a readable file of ratings"):
        read_others(tmp_path / "x.csv", Tally())


def test_a_file_of_the_same_name_in_another_folder_is_another_file(rater, tmp_path):
    taste = rater.taste()
    known = {
        path: rater.put(png((at, 9, 9), seed=at)) for at, path in enumerate(("test/1.png", "a/test/2.png", "3.png"))
    }
    rater.add(taste, [pb.Image(digest=one, source=pb.SOURCE_IMPORTED, path=path) for path, one in known.items()])
    client = SimpleNamespace(rater=SimpleNamespace(list_images=partial(listed_by, rater)))
    find = digests_of(client, taste, tmp_path)
    for name in ("test/1.png", "1.png", "TEST\\1.png", "data/test/1.png"):
        assert find(name) == known["test/1.png"]
    assert find("test/2.png") == find("2.png") == known["a/test/2.png"] and find("photos/3.png") == known["3.png"]
    assert find("train/1.png") == find("b/test/2.png") == ""


def listed_by(rater, **fields):
    return rater.call("ListImages", pb.ListImagesRequest(**fields))


def test_what_was_revoked_since_is_told_with_what_to_do(capsys):
    population.tell_revoked(pb.Population(name="populations/friends", image_count=80))
    assert not capsys.readouterr().err
    gone = pb.Population(name="populations/friends", image_count=80, revoked_image_count=3, revoked_rating_count=17)
    population.tell_revoked(gone)
    told = capsys.readouterr().err
    assert "3 of its 80 images were revoked since" in told and "17 ratings" in told
    assert "konomi population remove friends, then konomi population fit again" in told
