"""What the docs site does beside mkdocs, so that a page can be read in the repository as well as on the site.

In the repository a link to a file outside docs/ is relative, a page names its Japanese twin at its head, and Japanese
pages link to each other by name. On the site the first leads to where the repository is kept (KONOMI_REPOSITORY), the
second is the theme's switch, and the third is left to the i18n plug-in, which knows pages by their English name.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NAME = r"(?:日本語|English|\[(?:日本語|English)\]\([^)\s]+\))"
TWIN = re.compile(rf"\A{NAME} / {NAME}\n")
"""The first line of a page: its languages, of which the other is a link."""
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Returns a page whose links to files outside docs/ are whole, or plain words where nobody says where those are.

    One that leads nowhere is left as it is, and mkdocs refuses it.
    """
    folder = (DOCS / page.file.src_uri).parent
    kept_at = (config.extra.get("repository") or "").rstrip("/")

    def whole(link: re.Match[str]) -> str:
        words, path, anchor = link[1], link[2], link[3] or ""
        if path.endswith(".ja.md"):
            return f"[{words}]({path.removesuffix('.ja.md')}.md{anchor})"
        target = (folder / path).resolve()
        if "://" in path or target.is_relative_to(DOCS) or not target.exists():
            return link[0]
        return f"[{words}]({kept_at}/blob/HEAD/{target.relative_to(ROOT).as_posix()}{anchor})" if kept_at else words

    return LINK.sub(whole, TWIN.sub("", markdown))
