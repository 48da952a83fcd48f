"""The folders `make plugins` makes: each the root of a repository that the program installs by its address."""

import subprocess
import sys
import tomllib
from pathlib import Path

from tests.client.web.site import ROOT

sys.path.insert(0, str(ROOT / ".ci"))
try:
    import plugins
finally:
    sys.path.pop(0)


def test_a_pack_is_the_root_of_a_repository(tmp_path):
    folder = plugins.make("comfyui", tmp_path / "pack", "1.2.3", "https://example.org/konomi", "somebody")
    about = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    assert about["project"]["version"] == "1.2.3"
    assert about["project"]["urls"] == {"Repository": "https://example.org/konomi"}
    assert about["tool"]["comfy"]["PublisherId"] == "somebody"
    assert (folder / about["project"]["license"]["file"]).read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (folder / "__init__.py").is_file() and (folder / "locales" / "ja" / "nodeDefs.json").is_file()
    assert not list(folder.rglob("__pycache__"))


def test_nothing_is_invented_where_nobody_said_it(tmp_path):
    about = tomllib.loads((plugins.make("comfyui", tmp_path / "pack", "1.2.3", "", "") / "pyproject.toml").read_text())
    assert about["project"].get("urls", {}) == {} and about["tool"]["comfy"]["PublisherId"] == ""


def test_the_extension_is_cloned_as_install_from_url_clones_it(tmp_path):
    """The web UI runs `git clone` and looks for scripts/*.py at the root of what came."""
    folder = plugins.make("a1111", tmp_path / "published", "1.2.3", "", "")
    git = ["git", "-c", "user.name=konomi", "-c", "user.email=konomi@example.org", "-C", str(folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "konomi"], check=True)
    extension = tmp_path / "extensions" / "konomi-a1111"
    subprocess.run(["git", "clone", "-q", "--filter=blob:none", folder.as_uri(), str(extension)], check=True)
    assert [path.name for path in Path(extension, "scripts").glob("*.py")] == ["konomi_score.py"]
    assert (extension / "LICENSE").is_file() and (extension / "konomi_http.py").is_file()
