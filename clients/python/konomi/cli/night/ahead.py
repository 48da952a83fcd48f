"""`konomi night start --check`: what a night would refuse at its hour, said while somebody is there to put it right."""

from contextlib import ExitStack

from konomi import errors
from konomi.cli.console import emit, note, say
from konomi.client.refusals import told
from konomi.home import Home
from konomi.host import extras
from konomi.host.session import Session, open_session
from konomi.i18n.catalogue import language, text
from konomi.night.alarms import sentence
from konomi.night.engine import drafting, preparation, trial
from konomi.night.engine.feasibility import check_rater
from konomi.night.gateway.services import NightServices
from konomi.night.records.request import NightRequest
from konomi.night.records.store import NightStore
from konomi.night.report.notification import NotifySettings, receivers

PASSING = (
    errors.Unavailable,
    errors.DeadlineExceeded,
    errors.ResourceExhausted,
    errors.Aborted,
    errors.Cancelled,
)
"""What may be otherwise in an hour: it says nothing about the night."""


def look_ahead(home: Home, asked: NightRequest, as_json: bool, anyway: bool) -> None:
    """Looks at a night as its start would, and starts none.

    What can be otherwise at its hour is only said: services that cannot be asked now, another night that runs, and a
    base model's trial, which more grades change and which may want a GPU somebody else has now.

    Args:
        home: the home.
        asked: the night, as its words ask for it.
        as_json: the result is one line of JSON.
        anyway: a base model that cannot draw the taste shall not keep the night from starting.

    Raises:
        KonomiError: what the start would raise, with the same sentence and code.
    """
    receivers(NotifySettings(home=home.root))
    extras.require("overnight")
    nights = NightStore(home.root)
    if not _goes_on(nights, asked):
        nights.require_unused(asked.id)
        with ExitStack() as stack:
            try:
                session = stack.enter_context(open_session(home))
            except errors.KonomiError as error:
                if error.reason == "MISSING_EXTRA":
                    raise
                _later(error)
            else:
                _ask(session, home, asked, nights, anyway)
    emit({"state": "checked"}) if as_json else say(text("nothing keeps this night from starting"))


def _goes_on(nights: NightStore, asked: NightRequest) -> bool:
    """Says whether the night is begun already; another one that runs now may have ended by then."""
    try:
        return nights.begun(asked.asked) is not None
    except errors.FailedPrecondition as error:
        if nights.runner() is None:
            raise
        _later(error)
        return False


def _ask(session: Session, home: Home, asked: NightRequest, nights: NightStore, anyway: bool) -> None:
    try:
        request = preparation.complete_request(asked, session, nights)
        gateway = NightServices(session, request.taste)
        check_rater(request.taste, gateway.state())
        drafting.drafts_wanted(gateway, trial.settings_of(request))
        if not anyway and trial.needed(gateway, request, nights):
            _say_trial(gateway, request, home)
    except PASSING as error:
        _later(error)


def _say_trial(gateway: NightServices, request: NightRequest, home: Home) -> None:
    """Says that a trial comes first at the night's hour, or what one that was made already showed."""
    tried = trial.kept(gateway, request, home.root)
    if tried is None:
        line = (
            "{count} trial images of {base} come first at that hour; a night whose base model cannot draw the taste is "
            "refused then. To see them now: konomi night plan {system} --trial"
        )
        base = trial.settings_of(request).base_model
        return note(text(line, count=trial.IMAGES, base=base, system=request.system))
    warning = trial.warning(tried)
    if warning is not None:
        line = (
            "{words} Unless more is graded until its hour, the night is refused then; --anyway starts it all the same."
        )
        note(text(line, words=sentence(warning, language())))
    return None


def _later(error: errors.KonomiError) -> None:
    note(text("this cannot be looked at now, so the night looks for itself at its hour: {why}", why=told(error)))
