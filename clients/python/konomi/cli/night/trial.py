"""The trial of a base model before a night: said, asked about in a terminal, shown by `konomi night plan --trial`."""

import sys
from collections.abc import Sequence

import typer

from konomi import errors
from konomi.cli.console import note, progress, say
from konomi.files import make_folder, write_for_user
from konomi.home import Home
from konomi.host.session import Session, open_session
from konomi.i18n.catalogue import language, text
from konomi.night.alarms import sentence
from konomi.night.engine import preparation, trial
from konomi.night.gateway.services import NightServices
from konomi.night.records.request import NightRequest
from konomi.night.records.store import NightStore
from konomi.night.records.trial import Trial
from konomi.night.settings import NightSettings

FOLDER = "trials"
"""Of a home: the trial images, a folder a base model, as files to look at."""


class FirstLook:
    """Lets a base model show what it draws before a night begins; asks or refuses where that is not the taste.

    Args:
        home: the home.
        session: the services.
        nights: its nights.
        asks: somebody may be asked, where there is a terminal.
        anyway: it is said and nobody is asked.
    """

    def __init__(self, home: Home, session: Session, nights: NightStore, *, asks: bool, anyway: bool) -> None:
        self._home, self._session, self._nights = home, session, nights
        self._asks, self._anyway = asks, anyway
        self._trial: Trial | None = None

    def __call__(self, request: NightRequest) -> NightRequest:
        """Returns the request where the night may begin.

        Raises:
            FailedPrecondition: the base model cannot draw the taste, and nobody said that it shall all the same.
        """
        gateway = NightServices(self._session, request.taste)
        if not trial.needed(gateway, request, self._nights):
            return request
        self._trial = _look(gateway, request, self._home)
        warning = trial.warning(self._trial)
        if warning is not None:
            self._decide(sentence(warning, language()))
        return request

    def keep(self, night: str) -> None:
        """Keeps the trial beside the night that began with it."""
        if self._trial is not None:
            self._nights.keep_trial(night, self._trial)

    def _decide(self, words: str) -> None:
        if self._anyway:
            return note(words)
        if self._asks and sys.stdin.isatty():
            note(words)
            if typer.confirm(text("Start all the same?"), err=True):
                return None
        line = text(
            "{words} Choose another base model (konomi models bases), grade some of its images, or start all the same "
            "with --anyway.",
            words=words,
        )
        raise errors.FailedPrecondition(line, reason="BASE_FAR", field="base_model")


def tried_on(home: Home, chain: str, taste: str, settings: NightSettings, prompts: Sequence[str]) -> Trial:
    """Returns the trial of a night that was not begun, with services of its own where none run."""
    asked = preparation.new_request(chain, taste, 0, settings, preparation.guards_of(home.root), list(prompts))
    with open_session(home) as session:
        request = preparation.complete_request(asked, session, NightStore(home.root))
        tried = _look(NightServices(session, taste), request, home)
        folder = home.root / FOLDER / tried.base
        make_folder(folder)
        for number, digest in enumerate(tried.digests, start=1):
            write_for_user(folder / f"{number:02d}.png", session.client.artifacts.get(digest))
    return tried


def show_trial(home: Home, tried: Trial) -> None:
    """Prints the numbers of a trial, what follows from them, and where its images are."""
    for line in trial.figures(tried):
        say(line)
    warning = trial.warning(tried)
    if warning is not None:
        say(sentence(warning, language()))
    say(text("trial images: {folder}", folder=home.root / FOLDER / tried.base))


def _look(gateway: NightServices, request: NightRequest, home: Home) -> Trial:
    base = trial.settings_of(request).base_model
    with progress(text("trial images of {base}", base=base), trial.IMAGES) as update:
        return trial.look(gateway, request, home.root, lambda name, done, total, made="": update(completed=done))
