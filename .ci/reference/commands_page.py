"""Every command, a page a language: what `--help` prints."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from konomi.cli.commands import COMMANDS, command_for
from konomi.i18n.catalogue import speaking

COLUMNS = "100"
WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "Commands",
        "intro": "What `--help` says of every command. A command's last line in `--json` is one JSON object.",
    },
    "ja": {
        "title": "コマンド",
        "intro": "すべてのコマンドの `--help` です。`--json` を付けると、標準出力の最後の行が JSON 一つになります。",
    },
}


def page(language: str) -> str:
    """Returns the page of all commands in a language."""
    words, before = WORDS[language], os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    lines = [f"# {words['title']}", "", words["intro"], ""]
    try:
        with speaking(language):
            for path, said in _helps():
                lines += [f"{'#' * (1 + len(path))} konomi {' '.join(path)}", "", "```text", said, "```", ""]
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return "\n".join(lines)


def _helps() -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields every command's words and its help, a group before what is in it."""
    for name in COMMANDS:
        root = command_for([name, "--help"])
        context = root.make_context("konomi", [], resilient_parsing=True)
        yield from _below(root.get_command(context, name), context, (name,))


def _below(command: Any, above: Any, path: Sequence[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    context = command.make_context(path[-1], [], parent=above, resilient_parsing=True)
    said = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield tuple(path), said
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from _below(command.get_command(context, name), context, (*path, name))
