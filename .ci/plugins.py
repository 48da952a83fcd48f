"""Makes the plug-ins ready to publish: `python .ci/plugins.py` leaves a repository's root for each under build/plugins.

Programs install a plug-in by the address of a repository whose root it is, and ComfyUI's registry takes such a folder.
Here they are folders among others, without a licence of their own. Where konomi's repository is and who publishes is
said once, by KONOMI_REPOSITORY and KONOMI_PUBLISHER in the environment of a release (RELEASING.md).
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLUGINS = {"comfyui": "konomi-comfyui", "a1111": "konomi-a1111"}
"""Folder under clients to the folder that is made."""


def main() -> int:
    """Makes both and says where they are."""
    out = ROOT / "build" / "plugins"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    repository = os.environ.get("KONOMI_REPOSITORY", "").rstrip("/")
    for source, name in PLUGINS.items():
        print(make(source, out / name, version, repository, os.environ.get("KONOMI_PUBLISHER", "")))
    return 0


def make(source: str, folder: Path, version: str, repository: str, publisher: str) -> Path:
    """Makes one plug-in's folder anew and returns it.

    Args:
        source: folder under clients.
        folder: where it goes.
        version: of konomi.
        repository: "https://…"; empty names none.
        publisher: the account of ComfyUI's registry it is published from; empty names none.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for path in _tracked(ROOT / "clients" / source):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "clients" / source / path, folder / path)
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    about = folder / "pyproject.toml"
    if about.is_file():
        about.write_text(filled(about.read_text("utf-8"), version, repository, publisher), "utf-8")
    return folder


def filled(text: str, version: str, repository: str, publisher: str) -> str:
    """Returns a pack's pyproject.toml for a release."""
    lines = {f'version = "{version}"': "version = ", f'PublisherId = "{publisher}"': "PublisherId = "}
    if repository:
        lines[f'Repository = "{repository}"'] = "# Repository = "
    for line, begin in lines.items():
        text = "\n".join(line if old.startswith(begin) else old for old in text.split("\n"))
    return text


def _tracked(folder: Path) -> list[str]:
    """Returns what git knows of a folder: nothing that happens to lie there is published."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    return [path for path in said.split("\0") if path and (folder / path).is_file()]


if __name__ == "__main__":
    sys.exit(main())
