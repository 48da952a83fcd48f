"""A line the parser refuses: what is wrong with it, in the language in use, and the way to its help."""

import re

import typer

from konomi.cli.console import lay_out
from konomi.i18n.catalogue import text

REFUSALS = (
    "No such command {name}. Did you mean {names}?",
    "No such command {name}.",
    "No such option: {option} (Possible options: {options})",
    "No such option: {option}",
    "Missing command.",
    "Missing argument {parameter}. Choose from:\n\t{choices}",
    "Missing argument {parameter}.",
    "Missing option {parameter}.",
    "Invalid value for {parameter}: {why}",
    "Option {option} requires an argument.",
    "Option {option} does not take a value.",
    "Got unexpected extra argument(s) ({arguments})",
    "{value} is not one of {choices}.",
    "Input should be a valid integer, unable to parse string as an integer",
    "Input should be a valid number, unable to parse string as a number",
    "Input should be greater than or equal to {least}",
    "Input should be less than or equal to {most}",
)
"""What typer and pydantic say of a wrong line, the longer of two that begin alike first; a test meets each of them.

Neither asks gettext, and an error holds the sentence, not its parts: the parts are found again by these.
"""

PYDANTICS = "Value error, "
"""What pydantic sets before a reason of ours; it says nothing to whoever typed the line."""

REASON = "why"
"""The part of a sentence that is one of these sentences itself."""


def complain(error: typer.TyperException) -> int:
    """Prints how the command is used and why its line was refused, and returns the exit code.

    Args:
        error: what typer raised; a command that was called bare raises its help.
    """
    context: typer.Context | None = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None and message == context.get_help():
        lay_out(message)
        return error.exit_code
    if context is not None:
        option = context.help_option_names[0]
        way = text("Try '{command} {option}' for help.", command=context.command_path, option=option)
        lay_out(f"{context.get_usage()}\n{way}\n")
    lay_out(text("Error: {message}", message=translated(message)))
    return error.exit_code


def translated(message: str) -> str:
    """Returns a sentence of the parser in the language in use; one that is not known here stays English."""
    message = message.removeprefix(PYDANTICS)
    for sentence in REFUSALS:
        match = _pattern(sentence).fullmatch(message)
        if match is not None:
            parts = match.groupdict()
            if REASON in parts:
                parts[REASON] = translated(parts[REASON])
            return text(sentence, **parts)
    return message


def _pattern(sentence: str) -> re.Pattern[str]:
    """Returns what finds the parts of a sentence in the sentence that is filled in."""
    pieces = re.split(r"\{(\w+)\}", sentence)
    return re.compile(
        "".join(f"(?P<{piece}>.+?)" if index % 2 else re.escape(piece) for index, piece in enumerate(pieces)), re.DOTALL
    )
