"""What the docs site does beside mkdocs, so that a page can be read in the repository as well as on the site.

In the repository a link to a file outside docs/ is relative, a page names its Japanese twin at its head, and Japanese
pages link to each other by name. On the site the first leads to where the repository is kept, the second is the theme's
switch, and the third is left to the i18n plug-in, which knows pages by their English name.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NAME = r"(?:日本語|English|\[(?:日本語|English)\]\([^)\s]+\))"
TWIN = re.compile(rf"\A{NAME} / {NAME}\n")
"""The first line of a page: its languages, of which the other is a link."""
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Returns a page with its links to files outside docs/ made whole; one that leads nowhere is left, and refused."""
    folder = (DOCS / page.file.src_uri).parent
    kept_at = config.extra.get("repository", "")

    def whole(link: re.Match[str]) -> str:
        if link[1].endswith(".ja.md"):
            return f"{link[1].removesuffix('.ja.md')}.md{link[2] or ''}"
        target = (folder / link[1]).resolve()
        if "://" in link[1] or target.is_relative_to(DOCS) or not target.exists():
            return link[0]
        return f"{kept_at}{target.relative_to(ROOT).as_posix()}{link[2] or ''}"

    return LINK.sub(whole, TWIN.sub("", markdown))
