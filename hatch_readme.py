"""The build step of the package's own page: README.md with links that lead somewhere outside a checkout, and URLs.

Where the repository is is said once, by KONOMI_REPOSITORY in the environment of a release (RELEASING.md); a build
without it names no address, and of a link within the repository the words alone are left.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

REPOSITORY = "KONOMI_REPOSITORY"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\((?!https?://|#|mailto:)([^)\s]+)\)")
"""A link or picture within the repository; its words may hold a picture."""
PICTURES = (".png", ".svg", ".gif", ".webp", ".jpg")


class ReadmeHook(MetadataHookInterface):
    """Called by hatchling when it reads the project's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Sets the readme and the URLs."""
        repository = os.environ.get(REPOSITORY, "").rstrip("/")
        words = Path(self.root, "README.md").read_text("utf-8")
        reference = f"v{metadata['version']}"
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(words, repository, reference)}
        metadata["urls"] = urls(repository, reference)


def urls(repository: str, reference: str) -> dict[str, str]:
    """Returns the links of the package's page; none where nobody said where the repository is."""
    if not repository:
        return {}
    return {
        "Homepage": repository,
        "Documentation": f"{repository}/tree/{reference}/docs",
        "Source": repository,
        "Issues": f"{repository}/issues",
        "Changelog": f"{repository}/blob/{reference}/CHANGELOG.md",
    }


def absolute(words: str, repository: str, reference: str) -> str:
    """Returns Markdown whose links within the repository are whole addresses, at a tag.

    Args:
        words: the Markdown.
        repository: "https://…" of the repository; empty leaves the words of such links, and no pictures.
        reference: tag or branch.
    """

    def changed(link: re.Match[str]) -> str:
        picture, inside, path = link.groups()
        inside = LINK.sub(changed, inside)
        if not repository:
            return "" if picture else inside
        kind = "raw" if path.lower().endswith(PICTURES) else "blob"
        return f"{picture}[{inside}]({repository}/{kind}/{reference}/{path.removeprefix('./')})"

    return LINK.sub(changed, words)
