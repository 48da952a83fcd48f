"""Datasets out of a real rater and back into one; other programs' prompts; hostile archives."""

import io
import json
import shlex
import stat
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pyarrow.parquet
import pytest
from PIL import Image, PngImagePlugin

from konomi.cli.commands import command_for
from konomi.cli.images.export import whole
from konomi.cli.images.import_images import add_all
from konomi.client import Client
from konomi.client.messages import GRADES
from konomi.datasets.captions import grade_of, line_of
from konomi.datasets.kohya import write_kohya
from konomi.datasets.png_metadata import NEEDS_EXTRA, origin_of
from konomi.datasets.reader import find_images
from konomi.datasets.records import count, records
from konomi.datasets.webdataset import write_shards, write_tables
from konomi.datasets.xmp import Rating
from konomi.errors import FailedPrecondition, NotFound
from konomi.host import extras
from konomi.v1 import rater_pb2 as pb
from tests.rater.conftest import (  # noqa: F401  fixtures
    fitted,
    home,
    kept_fitted,
    kept_library,
    library,
    models,
    png,
    rater,
)

IMPORTED = pb.Image(source=pb.SOURCE_IMPORTED)


def of(seed: int) -> bytes:
    return png((seed * 7 % 255, 40, 90), seed=seed)


def found(*paths: Path) -> dict[str, object]:
    return {image.name: image for image in find_images(paths)}


def only(path: Path):
    (image,) = find_images([path])
    return image


@pytest.mark.slow
def test_datasets_leave_a_taste_and_come_back_to_another_with_the_same_values(rater, fitted, tmp_path):  # noqa: F811
    with Client.from_addresses({"rater": rater.address}, home=rater.home) as client:
        out = list(records(client, "default", [], "", False))
        graded = list(records(client, "default", ["UR", "SSR"], "", True))
        assert len(out) == 120 == count(client, "default", [], "") and {r.grade for r in graded} == {"UR", "SSR"}
        assert all(r.caption.startswith(("masterpiece, portrait", "best quality, portrait")) for r in graded)
        ungraded = [r for r in out if not r.grade]
        assert len(ungraded) == 80 and all(r.facts["prediction"]["grade"] in GRADES for r in ungraded)

        folders = {name: tmp_path / name for name in ("kohya", "shards", "tables")}
        for folder in folders.values():
            folder.mkdir()
        assert write_kohya(folders["kohya"], out, "portrait", 3, 64) == 120
        assert write_shards(folders["shards"], out, 50) == write_tables(folders["tables"], out, 50) == 120
        for name, folder in folders.items():
            rater.taste(name)
            summary = add_all(client, name, [folder], IMPORTED, lambda done: None)
            assert (summary.added, summary.rated, summary.failed) == (120, 40, []), name
            back = {r.digest: r for r in records(client, name, [], "", False)}
            assert {d: (r.data, r.caption, r.grade, r.facts["seed"]) for d, r in back.items()} == {
                r.digest: (r.data, r.caption, r.grade, r.facts["seed"]) for r in out
            }, name  # bytes, captions, grades and seeds: what was predicted has become nobody's grade
    _kohya_reads(folders["kohya"], out)
    _webdataset_reads(folders["shards"], out)
    table = pyarrow.parquet.read_table(sorted(folders["tables"].iterdir())[0]).to_pylist()
    assert [row["grade"] for row in table] == [r.facts["grade"] for r in out[:50]]
    assert [row["utility"] for row in table] == [r.facts["prediction"]["utility"] for r in out[:50]]
    assert table[0]["image"] == out[0].data and table[0]["image_name"] == f"{out[0].digest}.png"


def test_an_image_collected_while_its_taste_leaves_stays_behind(rater, library, tmp_path):  # noqa: F811
    with Client.from_addresses({"rater": rater.address}, home=rater.home) as client:
        leaving = records(client, library.taste, [], "", False)
        first = next(leaving)
        lost = next(digest for digest in library.digests if digest != first.digest)
        rater.store.discard([lost], None)
        left = {first.digest, *(record.digest for record in leaving)}
        assert lost not in left and len(left) == count(client, library.taste, [], "") - 1
        (rater.home / "artifacts" / lost[:2] / f"{lost}.gone").unlink()
        with pytest.raises(NotFound, match="There is no artifact"):  # that one is damage
            list(records(client, library.taste, [], "", False))


def _kohya_reads(folder: Path, out) -> None:
    """The rules of kohya's own loader: repeats before the first underscore, captions beside the images by stem."""
    wanted = {r.digest: r for r in out}
    seen = set()
    for sub in (path for path in folder.iterdir() if path.is_dir()):
        repeats, _, tokens = sub.name.partition("_")
        assert int(repeats) == 3 and tokens.startswith("portrait ")
        for image in sub.glob("*.png"):
            assert image.with_suffix(".txt").read_text().strip() == wanted[image.stem].caption
            assert image.read_bytes() == wanted[image.stem].data
            assert tokens == f"portrait {wanted[image.stem].grade.lower() or 'ungraded'}"
            seen.add(image.stem)
    assert seen == set(wanted)
    written = tomllib.loads((folder / "dataset.toml").read_text())
    subsets = written["datasets"][0]["subsets"]
    assert {s["image_dir"] for s in subsets} == {p.name for p in folder.iterdir() if p.is_dir()}
    assert {s["num_repeats"] for s in subsets} == {3} and written["general"]["caption_extension"] == ".txt"


def _webdataset_reads(folder: Path, out) -> None:
    """Webdataset's rule: consecutive members whose names agree up to the first dot are one sample."""
    samples: list[dict[str, bytes]] = []
    for shard in sorted(folder.glob("*.tar")):
        last = None
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, kind = member.name.partition(".")
                if key != last:
                    samples.append({"__key__": key.encode()})
                    last = key
                samples[-1][kind] = tar.extractfile(member).read()
        assert shard.with_suffix(".parquet").is_file()
    assert len(samples) == len(out) and {len(sample) for sample in samples} == {4}
    for sample, record in zip(samples, out, strict=True):
        assert sample["png"] == record.data and sample["txt"].decode() == record.caption
        assert json.loads(sample["json"]) == record.facts


def test_an_export_never_touches_what_is_there_and_leaves_no_half(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(FailedPrecondition, match="empty or not there") as refused, whole(tmp_path / "mine"):
        pass
    assert refused.value.reason == "FOLDER_NOT_EMPTY" and (tmp_path / "mine" / "a.txt").read_text() == "mine"
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "new") as place:
        (place / "x").write_text("half")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_kohyas_folders_captions_and_rows_are_read_from_a_folder_and_from_its_zip(tmp_path):
    data = tmp_path / "set"
    for name, caption in (("10_sks dog/1", "a dog, sitting"), ("10_sks dog/2", None), ("5_cat/deep/3", "a cat")):
        path = data / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(of(len(name)))
        if caption:
            path.with_suffix(".txt" if "1" in path.stem else ".caption").write_text(caption + "\nsecond line\n")
    rows = [{"file_name": "deep/4.png", "text": "four", "grade": "SSR", "seed": 77}, {"file_name": "x"}, "no row"]
    (data / "5_cat" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    (data / "5_cat" / "deep" / "4.png").write_bytes(of(4))
    (data / "5_cat" / "link.txt").symlink_to("/etc/passwd")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted(data.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, path.relative_to(data))
    for place, separator in ((data, "/"), (tmp_path / "set.zip", "!")):
        images = {name.removeprefix(f"{place}{separator}"): image for name, image in found(place).items()}
        assert {name: image.caption for name, image in images.items()} == {
            "10_sks dog/1.png": "a dog, sitting",
            "10_sks dog/2.png": "sks dog",
            "5_cat/deep/3.png": "a cat",
            "5_cat/deep/4.png": "four",
        }
        assert images["5_cat/deep/4.png"].rating == Rating(4)
        assert not any(image.error for image in images.values())


@pytest.mark.parametrize(
    ("facts", "grade"),
    [({"grade": "UR"}, Rating(5)), ({"grade": "ssr"}, Rating(4)), ({"grade": 3}, Rating(3)),
     ({"grade": "5"}, Rating(5)), ({"grade": 5.0}, Rating(5)), ({"grade": "2.0"}, Rating(2)),
     ({"grade": 0}, Rating(0)), ({"grade": "-1"}, Rating(0)),
     ({"grade": None}, Rating()), ({"grade": ""}, Rating()), ({}, Rating()), ({"grade": 6}, Rating(odd="6")),
     ({"grade": True}, Rating(odd="True")), ({"grade": 4.5}, Rating(odd="4.5")), ({"grade": "99"}, Rating(odd="99")),
     ({"grade": "good"}, Rating(odd="good")), ({"grade": [5]}, Rating(odd="[5]")),
     ({"grade": float("nan")}, Rating(odd="nan")), ({"grade": 10**30}, Rating(odd="1" + "0" * 30)),
     ({"predicted_grade": "UR"}, Rating()), ({"prediction": {"grade": "UR"}}, Rating()), ({"score": 5}, Rating())],
)  # fmt: skip
def test_only_a_grade_is_a_grade(facts, grade):
    assert grade_of(facts) == grade


def test_an_infotext_file_beside_an_image_says_its_prompt():
    assert line_of("a fox, snow\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Seed: 5") == "a fox, snow"
    assert line_of("\n  tags_a, tags\\(b\\) \nmore") == "tags_a, tags\\(b\\)"


def test_shards_of_webdataset_with_hostile_members(tmp_path):
    members = [
        ("000.png", of(1)), ("000.txt", b"first"), ("000.json", b'{"grade": 5, "seed": 9}'),
        ("../out.png", of(2)), ("/abs.png", of(3)), ("a\\b.png", of(4)), ("C:x.png", of(5)), ("000.png", of(6)),
        ("notes.md", b"text"), ("001.png", of(7)),
    ]  # fmt: skip
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"link{kind.decode()}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    images = list(find_images([tmp_path]))
    good = [image for image in images if image.error is None]
    assert [(i.name.partition("!")[2], i.caption, i.rating.grade) for i in good] == [
        ("000.png", "first", 5), ("a\\b.png", None, None), ("C:x.png", None, None), ("001.png", None, None),
    ]  # fmt: skip
    assert [image.error.reason for image in images if image.error] == [
        *["UNSAFE_NAME"] * 2, "TWICE", *["NOT_A_FILE"] * 4,
    ]  # fmt: skip
    assert {path.name for path in tmp_path.parent.iterdir()} & {"out.png", "abs.png"} == set()
    (tmp_path / "cut.tar").write_bytes((tmp_path / "s.tar").read_bytes()[:700])
    assert only(tmp_path / "cut.tar").error.reason == "TAR_UNREADABLE"
    (tmp_path / "z.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    assert only(tmp_path / "z.tar").error.reason == "TAR_UNREADABLE"


def test_a_zip_with_hostile_entries_gives_its_good_images_and_says_why_the_others_not(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", of(1))
        archive.writestr("../../out.png", of(2))
        archive.writestr("/abs.png", of(3))
        archive.writestr("bomb.png", b"\x89PNG\r\n\x1a\n" + bytes(20_000_000))
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("twice.png", of(4))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("twice.png", of(5))
    said = {name.partition("!")[2]: image for name, image in ((i.name, i) for i in find_images([path]))}
    reasons = [image.error.reason for image in find_images([path]) if image.error]
    assert reasons == ["UNSAFE_NAME", "UNSAFE_NAME", "ZIP_BOMB", "NOT_A_FILE", "TWICE"]
    assert said["good.png"].data == of(1)
    assert [image.data for image in find_images([path]) if not image.error] == [of(1), of(4)]


def test_a_parquet_table_that_is_none_or_has_no_images(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(50) + b"PAR1")
    assert only(tmp_path / "a.parquet").error.reason == "PARQUET_UNREADABLE"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "a.parquet")
    assert "no column of images" in only(tmp_path / "a.parquet").error.message
    assert list(find_images([tmp_path])) == []  # in a folder it is a table beside shards
    rows = pyarrow.table(
        {"image": [{"bytes": of(1), "path": "1.png"}, {"bytes": b"no", "path": ""}], "text": ["a", "b"]}
    )
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet")
    first, second = find_images([tmp_path])
    assert (first.caption, first.data) == ("a", of(1)) and second.error.reason == "IMAGE_TYPE"
    monkeypatch.setitem(extras.EXTRAS, "files", ("no_such_module",))
    error = only(tmp_path / "a.parquet").error
    assert error.reason == "MISSING_EXTRA" and "[files]" in error.message


def with_text(**texts: str) -> bytes:
    info, out = PngImagePlugin.PngInfo(), io.BytesIO()
    for name, value in texts.items():
        info.add_text(name.replace("_dash_", "-"), value)
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


A1111 = "a fox in snow\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 8x8, Model: m"
COMFY = {
    "3": {"class_type": "KSampler", "inputs": {
        "seed": 43, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
        "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 8, "height": 8, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox in snow", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "dog", "clip": ["4", 1]}},
}  # fmt: skip
LINKS = [
    [1, 4, 0, 3, 0, "MODEL"], [2, 5, 0, 3, 3, "LATENT"], [3, 4, 1, 6, 0, "CLIP"], [4, 6, 0, 3, 1, "CONDITIONING"],
    [5, 4, 1, 7, 0, "CLIP"], [6, 7, 0, 3, 2, "CONDITIONING"],
]  # fmt: skip
NOVELAI = {
    "Title": "AI generated image", "Software": "NovelAI", "Source": "Stable Diffusion 81274D13",
    "Description": "a fox in snow",
    "Comment": json.dumps({
        "steps": 28, "sampler": "k_euler", "seed": 44, "strength": 0.7, "noise": 0.2, "scale": 11.0, "uc": "dog",
    }),
}  # fmt: skip
INVOKE = json.dumps({
    "app_version": "3.0.2", "generation_mode": "txt2img", "positive_prompt": "a fox in snow", "negative_prompt": "dog",
    "width": 8, "height": 8, "seed": 45, "cfg_scale": 7.5, "steps": 20, "scheduler": "euler",
    "model": {"model_name": "m", "base_model": "sd-1", "model_type": "main"},
})  # fmt: skip


def jpeg(kind: str) -> bytes:
    exif, out = Image.Exif(), io.BytesIO()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + A1111.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(out, kind, exif=exif)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "seed"),
    [(with_text(parameters=A1111), 42), (jpeg("JPEG"), 42), (jpeg("WEBP"), 42),
     (with_text(prompt=json.dumps(COMFY), workflow=json.dumps({"links": LINKS})), 43), (with_text(**NOVELAI), 44),
     (with_text(invokeai_metadata=INVOKE), 45)],
    ids=["a1111 png", "a1111 jpeg", "a1111 webp", "comfyui", "novelai", "invokeai"],
)  # fmt: skip
def test_prompt_and_seed_of_other_programs_images(data, seed, monkeypatch):
    said = origin_of(data)
    assert (said.prompt, said.seed, said.starter) == ("a fox in snow", seed, False)
    monkeypatch.setitem(extras.EXTRAS, "files", ("no_such_module",))
    without = origin_of(data)
    if seed == 43:  # ComfyUI's graphs alone need the extra, and it is told
        assert (without.prompt, without.unread) == ("", NEEDS_EXTRA)
    else:
        assert without == said


@pytest.mark.parametrize(
    "texts",
    [{"prompt": "{"}, {"prompt": '{"3": {"inputs": 5}}'}, {"Comment": "[]", "Software": "NovelAI"}, {"parameters": ""},
     {"invokeai_metadata": "null"}, {"sd_dash_metadata": "[[[["}, {"prompt": "[" * 3000}],
)  # fmt: skip
def test_malformed_metadata_says_nothing(texts):
    assert origin_of(with_text(**texts)).prompt == ""
    assert origin_of(with_text(**texts)[:60]).prompt == ""


def test_the_page_on_formats_says_commands_there_are():
    text = (Path(__file__).parents[3] / "docs" / "formats-in-practice.md").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("konomi ")]
    assert len(lines) >= 9
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command = command_for(words)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        assert command.make_context(line, words).params, line
