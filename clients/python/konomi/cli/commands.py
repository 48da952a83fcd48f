"""`konomi ...`: a table of small commands; a command's module is imported only when it is called."""

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

import typer

from konomi import errors
from konomi.cli import completion
from konomi.cli.console import FAILED, complain, exit_code, note, say
from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError
from konomi.files import keep_private
from konomi.home import choose
from konomi.i18n import catalogue
from konomi.i18n.catalogue import text


@dataclass(frozen=True)
class CommandEntry:
    """Where a command is: its module, the function or typer app in it, and its line in `konomi --help`."""

    module: str
    name: str
    help: str


COMMANDS = {
    "up": CommandEntry(
        "konomi.cli.up", "up", "Start rater, generator, trainer and the page here; Ctrl-C stops cleanly."
    ),
    "doctor": CommandEntry(
        "konomi.cli.doctor.command", "doctor", "Say what is missing or unsafe here, and the line that fixes each."
    ),
    "demo": CommandEntry("konomi.cli.demo", "demo", "Run the main job, start to end, with a simulated person."),
    "import": CommandEntry(
        "konomi.cli.images.import_images",
        "import_",
        "Make images of any origin known: folders, files, zips, tars, parquet.",
    ),
    "label": CommandEntry("konomi.cli.label", "label", "Open the page and grade, or move grades to and from files."),
    "rater": CommandEntry("konomi.cli.rater.fit", "app", "Fit a new rater version, or show how good it is."),
    "population": CommandEntry(
        "konomi.cli.rater.population", "app", "Other people's ratings as a prior, where they help your own."
    ),
    "score": CommandEntry("konomi.cli.images.score", "score", "Grade a folder the way the owner would."),
    "pick": CommandEntry(
        "konomi.cli.images.pick", "pick", "Pick the best images of a folder, one of each burst, with the reason."
    ),
    "immich": CommandEntry(
        "konomi.cli.images.immich.command", "app", "Grade the pictures of your Immich server, or bring them in."
    ),
    "sources": CommandEntry(
        "konomi.cli.images.sources", "app", "Where images came from, on whose word, and taking it back."
    ),
    "explore": CommandEntry(
        "konomi.cli.images.explore", "explore", "Find images far from everything known, worth a look."
    ),
    "map": CommandEntry(
        "konomi.cli.images.map_images", "map_", "See the taste from above: images like by like, and regions you like."
    ),
    "draw": CommandEntry(
        "konomi.cli.images.draw", "draw", "Draw some images to look at: by words, or like what you graded UR."
    ),
    "explain": CommandEntry(
        "konomi.cli.images.explain", "explain", "Say where an image comes from and what became of it."
    ),
    "mcp": CommandEntry(
        "konomi.cli.images.mcp",
        "mcp",
        "Answer an assistant over the Model Context Protocol: score, pick, explain, suggest.",
    ),
    "night": CommandEntry("konomi.cli.night.run", "app", "Plan, start, watch, stop and report the overnight loop."),
    "concepts": CommandEntry("konomi.cli.concepts", "app", "Teach a base model new words from a few images each."),
    "export": CommandEntry(
        "konomi.cli.images.export", "export", "Write images as a dataset: kohya, WebDataset, parquet."
    ),
    "taste": CommandEntry("konomi.cli.taste", "app", "A whole taste in one file, and back on any machine."),
    "storage": CommandEntry(
        "konomi.cli.storage.command", "app", "What lies on the disk, what may go by your policy, and letting it go."
    ),
    "compare": CommandEntry(
        "konomi.cli.models.adapters",
        "compare",
        "Rank a folder of LoRA checkpoints by the taste, at equal prompts and seeds.",
    ),
    "models": CommandEntry(
        "konomi.cli.models.manage", "app", "List, show, compare, export, merge, fetch and roll back models."
    ),
}


@dataclass(frozen=True)
class Globals:
    """The options that may stand anywhere on the line, and what is left of it."""

    home: str | None
    lang: str | None
    version: bool
    rest: list[str]


def main() -> None:
    """Runs the command line of this process."""
    keep_private()
    if any(name.lower().endswith("_proxy") for name in os.environ):
        from konomi.settings import bypass_proxies_on_loopback  # pydantic is slow to load, and few have a proxy

        bypass_proxies_on_loopback(os.environ)
    raise SystemExit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code: 0 ok, 1 failed, 2 usage, 3 not reachable, 4 refused."""
    catalogue.use(catalogue.choose(os.environ))
    typed = completion.typed(os.environ)
    try:
        options = take_globals(arguments if typed is None else typed)
        if options.lang:
            catalogue.use(options.lang)
        if options.home:
            choose(options.home)
        if options.version:
            say(f"konomi {version('konomi')}")
            return 0
        words = options.rest if typed is None else []  # a shell that asks for completions has put them elsewhere
        with catalogue.spoken_by_libraries():
            result = _run_command(command_for(options.rest), words)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0
    except ModuleNotFoundError as error:
        return _missing(error)
    except KonomiError as error:
        return complain(error) if typed is None else exit_code(error)  # a half-typed line is no mistake yet
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: nobody to tell
        return 0
    except OSError as error:
        return complain(errors.disk_full_error() if errors.is_full(error) else _unusable(error))
    except UnicodeEncodeError:
        return complain(InvalidArgument(text("expected text in UTF-8 on the command line, got bytes that are none")))
    return result if isinstance(result, int) else 0


def _run_command(command: Any, words: Sequence[str]) -> Any:
    """Runs a command on its words; what typer would say in English of a wrong line is said in the language in use."""
    try:
        return command(words, prog_name="konomi", standalone_mode=False)
    except typer.TyperException as error:
        from konomi.cli import usage

        return usage.complain(error)
    except typer.Abort:  # the input ended where an answer was due
        note(text("Aborted!"))
        return FAILED


def take_globals(arguments: Sequence[str]) -> Globals:
    """Takes --home, --lang and --version out of a line.

    Raises:
        InvalidArgument: one has no value, or names a language there is none of.
    """
    taken: dict[str, str] = {}
    rest: list[str] = []
    items = iter(arguments)
    for item in items:
        name, equals, value = item.partition("=")
        if item == "--":
            rest += [item, *items]
        elif name in ("--home", "--lang"):
            taken[name] = value if equals else next(items, "")
            if not taken[name]:
                raise InvalidArgument(text("expected a value after {option}", option=name))
        else:
            rest.append(item)
    lang = taken.get("--lang")
    languages = catalogue.languages()
    if lang not in (None, *languages):
        raise InvalidArgument(text("expected --lang {languages}, got {lang}", languages="|".join(languages), lang=lang))
    return Globals(taken.get("--home"), lang, rest[:1] == ["--version"], rest)


def command_for(arguments: Sequence[str]) -> Any:
    """Returns the click command of a line: all names in its help, one of them really there."""
    app = typer.Typer(
        name="konomi",
        add_completion=True,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Learn one person's taste in images, and work through the night.",
        epilog="Example: konomi demo",
    )
    app.callback()(_root)
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, entry in COMMANDS.items():
        target: Any = getattr(importlib.import_module(entry.module), entry.name) if name == called else _listed
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name, help=entry.help)
        else:
            app.command(name, help=None if name == called else entry.help)(target)
    command: Any = typer.main.get_command(app)
    next(option for option in command.params if option.name == "lang").metavar = "|".join(catalogue.languages())
    translate(command)
    return command


class _Formatter(typer.Context.formatter_class):  # type: ignore[valid-type,misc]
    """Typer's own layout of help, with its one word that gettext does not reach."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, prefix or f"{text('Usage:')} ")


class _Context(typer.Context):
    """Typer's own context of a command, with that layout."""

    formatter_class = _Formatter


def translate(command: Any, parent: typer.Context | None = None) -> None:
    """Puts the help of a command, its options and its subcommands into the language in use."""
    command.context_class = _Context
    context = _Context(command, parent=parent, **command.context_settings)
    for attribute in ("help", "short_help", "epilog"):
        if getattr(command, attribute, None):
            setattr(command, attribute, _translated(getattr(command, attribute)))
    for parameter in command.get_params(context):
        if getattr(parameter, "help", None):
            parameter.help = text(parameter.help)
    for child in getattr(command, "commands", {}).values():
        translate(child, context)


def _root(
    home: Annotated[str, typer.Option(metavar="FOLDER", help="The only folder where state lives.")] = "",
    lang: Annotated[str, typer.Option(metavar="en|ja", help="Language of help and messages.")] = "",
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Only shown: these options are taken out of the line before it gets here, wherever they stand."""


def _listed() -> None:
    """Stands for a command that is listed, not called."""


def _translated(words: str) -> str:
    """Returns a help text in the language in use, paragraph by paragraph; the command of an example stays as it is."""
    parts = [" ".join(part.split()) for part in words.strip().split("\n\n")]
    done = [
        f"{text('Example:')} {part.removeprefix('Example: ')}" if part.startswith("Example: ") else text(part)
        for part in parts
    ]
    return "\n\n".join(done)


def _unusable(error: OSError) -> KonomiError:
    """Returns what a file or folder is that cannot be used: its name and the system's reason; others are bugs.

    Raises:
        OSError: it names no file, so it is nothing the caller can put right.
    """
    if error.filename is None or error.strerror is None:
        raise error
    line = text("cannot read or write {path}: {why}", path=os.fsdecode(error.filename), why=error.strerror)
    return FailedPrecondition(line, reason="FILE_UNUSABLE")


def _missing(error: ModuleNotFoundError) -> int:
    """Names the pip line of a module that an extra would have brought; another missing module is a bug."""
    from konomi.host.extras import EXTRAS, pip_line

    extra = next((extra for extra, modules in EXTRAS.items() if (error.name or "").split(".")[0] in modules), None)
    if extra is None:
        raise error
    line = text("not installed: {module}; run: {line}", module=error.name, line=pip_line(extra))
    return complain(FailedPrecondition(line, reason="MISSING_EXTRA"))


__all__ = ["COMMANDS", "exit_code", "main", "run"]
