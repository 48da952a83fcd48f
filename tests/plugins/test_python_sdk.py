"""The page about Python, its blocks run in order against a live konomi."""

import re

import pytest

import konomi
from tests.client.web.site import ROOT, picture

PAGE = ROOT / "docs" / "python-sdk.md"

pytestmark = pytest.mark.slow


def test_the_blocks_run_in_order(site, token, tmp_path, monkeypatch, capsys):
    (tmp_path / "portrait.png").write_bytes(picture(901))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        exec(compile(block, PAGE.name, "exec"), names)
    said = capsys.readouterr().out
    for words in (
        r"^\d\.\d\d ± \d\.\d\d, at least ",
        r"^chances of N, R, SR, SSR, UR: \[",
        r"^not scored: .*image",
        r"^sort by \d",
        r"^(new|known already) [0-9a-f]{12}$",
        r"^tastes/default/raterVersions/\d+ knows \d+ grades$",
        r"^\d\.\d\d [0-9a-f]{12} \d+ bytes$",
        r"^TASTE_NOT_FOUND - there is no tastes/",
    ):
        assert re.search(words, said, re.MULTILINE), f"{words} not in\n{said}"


def test_every_name_the_page_mentions_exists():
    text = PAGE.read_text("utf-8")
    for attribute in re.findall(r"^\| `client\.(\w+)`", text, re.MULTILINE):
        assert hasattr(konomi.Client, attribute)
    for error in ("NotFound", "Unavailable", "ResourceExhausted"):
        assert error in text and issubclass(getattr(konomi, error), konomi.KonomiError)
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links and all((PAGE.parent / link).exists() for link in links if "://" not in link)
