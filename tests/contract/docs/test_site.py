"""The docs site: builds without a warning, has every page in both languages, fetches nothing, leads somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.source_tree import ROOT

MKDOCS = str(Path(sys.executable).with_name("mkdocs"))


def build(
    site: Path, config: Path = ROOT / "mkdocs.yml", repository: str = "https://kept.example/konomi"
) -> subprocess.CompletedProcess[str]:
    command = [MKDOCS, "build", "--strict", "-f", str(config), "-d", str(site)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "KONOMI_REPOSITORY": repository}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=240)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(folder)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_there_in_both_languages(site: Path):
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    english = [page.with_suffix(".html") for page in pages if not page.name.endswith(".ja.md")]
    assert len(english) > 8
    assert [page for page in english if not (site / page).exists() or not (site / "ja" / page).exists()] == []
    for name in ("first-night", "science", "reference/settings", "reference/errors", "reference/commands"):
        assert '<html lang="ja"' in (site / "ja" / f"{name}.html").read_text("utf-8")
        assert re.search("[\u3041-\u3093]", (site / "ja" / f"{name}.html").read_text("utf-8").partition("<h1")[2])


@pytest.mark.slow
def test_a_page_fetches_nothing_from_elsewhere(site: Path):
    outside = re.compile(r"<(?:script|img|iframe|source)[^>]* src=\"?https?:|<link[^>]* rel=\"?stylesheet[^>]*https?:")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 16
    assert [page.name for page in pages if outside.search(page.read_text("utf-8"))] == []


@pytest.mark.slow
def test_a_link_to_a_file_of_the_repository_leads_to_where_it_is_kept_and_a_broken_one_fails(
    tmp_path: Path, site: Path
):
    html = (site / "reference" / "settings.html").read_text("utf-8")
    assert "https://kept.example/konomi/blob/HEAD/deploy/konomi.example.toml" in html
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Home\n\n[gone](../README.nowhere)\n", "utf-8")
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"site_name: x\ndocs_dir: {docs}\nhooks: [{ROOT / '.ci' / 'site.py'}]\n", "utf-8")
    broken = build(tmp_path / "site", config)
    assert broken.returncode != 0 and "README.nowhere" in broken.stderr
