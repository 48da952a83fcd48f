"""What a shell may complete: the words typed so far, and the names of tastes, models and nights of a home."""

from collections.abc import Iterable, Mapping

import typer

from konomi.errors import KonomiError

ASKED = "_KONOMI_COMPLETE"
"""Set by the shell when it asks for completions; Typer answers it."""

TYPED = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")
"""Where bash, and where zsh and fish, put the line typed so far."""

SECONDS = 2.0
"""A service that does not answer within this time completes nothing; nobody waits longer for a Tab."""


def typed(environment: Mapping[str, str]) -> list[str] | None:
    """Returns the words after `konomi` where a shell asks for completions, None where it does not."""
    if ASKED not in environment:
        return None
    line = next((environment[name] for name in TYPED if environment.get(name)), "")
    return line.split()[1:]


def tastes(incomplete: str) -> list[str]:
    """Returns ids of the tastes of what runs on the home."""
    from konomi.client import connect_home

    try:
        with connect_home() as client:
            tastes_here = client.rater.list_tastes(page_size=1000, timeout=SECONDS).tastes
    except KonomiError:
        return []
    return _beginning(incomplete, (taste.name.removeprefix("tastes/") for taste in tastes_here))


def models(context: typer.Context, incomplete: str) -> list[str]:
    """Returns names of a taste's models, and their ids where only an id begins as typed."""
    from konomi.client import connect_home, paging

    try:
        with connect_home() as client:
            candidates = list(paging.models(client, context.params.get("taste") or "default", timeout=SECONDS))
    except KonomiError:
        return []
    named = _beginning(incomplete, (model.display_name for model in candidates))
    return named or _beginning(incomplete, (model.name.removeprefix("models/") for model in candidates))


def bases(incomplete: str) -> list[str]:
    """Returns ids of the base models of what runs on the home."""
    from konomi.client import connect_home

    try:
        with connect_home() as client:
            at_hand = client.generator.list_base_models(timeout=SECONDS).base_models
    except KonomiError:
        return []
    return _beginning(incomplete, (model.id for model in at_hand))


def nights(incomplete: str) -> list[str]:
    """Returns ids of the home's nights."""
    from konomi.home import Home

    folder = Home.locate().root / "nights"
    return _beginning(incomplete, (path.name for path in folder.iterdir()) if folder.is_dir() else ())


def systems(incomplete: str) -> list[str]:
    """Returns the systems a night can run."""
    from konomi.night.systems.registry import SYSTEMS

    return _beginning(incomplete, SYSTEMS)


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})
