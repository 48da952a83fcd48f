"""Runs one night in this process, from its request to its report."""

import importlib
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pydantic import ValidationError

from konomi.errors import KonomiError
from konomi.host import extras
from konomi.host.session import Session
from konomi.night.engine.progress import View
from konomi.night.gateway.services import NightServices
from konomi.night.records.request import NightRequest
from konomi.night.records.state import NightState
from konomi.night.records.store import NightStore


def read_ahead() -> threading.Thread:
    """Starts to read the workflow's code, which takes as long as small services take to start; join it before `run`."""

    def read() -> None:
        with suppress(ImportError):  # `run` says what is missing
            importlib.import_module("konomi.night.engine.workflow")

    reader = threading.Thread(target=read, name="read-ahead", daemon=True)
    reader.start()
    return reader


def run(
    nights: NightStore, request: NightRequest, session: Session, stopped: Callable[[], bool], view: View
) -> NightState:
    """Runs a night, or goes on with it, and returns its state.

    Raises:
        KonomiError: it was interrupted; the same call goes on later.
    """
    extras.require("overnight")
    from konomi.night import verdict
    from konomi.night.engine import workflow
    from konomi.night.engine.steps import NightSteps
    from konomi.night.engine.workflow import NightWorkflow

    nights.forget_stop(request.id)
    gateway = NightServices(session, request.taste, request.id)
    verdict.release_unused(session.client, nights, request.taste)
    try:
        steps = NightSteps(gateway, request, view.beat, partial(verdict.audits, nights, request.taste))
    except ValidationError:
        return workflow.halted(nights, request, gateway)
    state = NightWorkflow(nights, steps, lambda: stopped() or nights.stop_asked(request.id)).run(session)
    with suppress(KonomiError):  # the next night asks for it again
        verdict.release_unused(session.client, nights, request.taste)
    return state
