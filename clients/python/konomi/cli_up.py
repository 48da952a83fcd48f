"""`konomi up`: rater, generator and trainer on this machine until Ctrl-C."""

import time
from collections.abc import Mapping
from typing import Annotated

import typer

from konomi.console import Json, emit, note, say
from konomi.errors import Cancelled
from konomi.home import Home
from konomi.messages import text
from konomi.processes import Services, is_free, running
from konomi.stopping import stop_signals

USUAL_PORTS = {"rater": 50051, "generator": 50052, "trainer": 50053}
"""Taken where they are free; a home that finds one taken gets another."""

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")]


def up(
    as_json: Json = False,
    port_rater: Port = None,
    port_generator: Port = None,
    port_trainer: Port = None,
) -> None:
    """Start rater, generator and trainer here; Ctrl-C stops cleanly.

    Example: konomi up
    """
    home = Home.locate()
    ports = choose_ports({"rater": port_rater, "generator": port_generator, "trainer": port_trainer})
    with stop_signals() as stopped:
        note(text("starting on {home}, which takes some seconds…", home=home.root))
        try:
            with running(home, ports=ports, give_up=stopped.is_set) as services:
                _announce(services, home, as_json)
                while not stopped.wait(0.2):
                    services.check()
                note(text("stopping…"))
        except Cancelled:
            note(text("stopped before everything was up"))


def choose_ports(asked: Mapping[str, int | None]) -> dict[str, int]:
    """Returns the port of each role: the one asked for, else its usual one where that is free, else any."""
    return {
        role: port if port is not None else (USUAL_PORTS[role] if is_free(USUAL_PORTS[role]) else 0)
        for role, port in asked.items()
    }


def _announce(services: Services, home: Home, as_json: bool) -> None:
    if as_json:
        emit(services.addresses | {"page": "", "token_file": str(home.token_file)})
        return
    for role, address in services.addresses.items():
        say(f"{role:<10} {address}")
    say(f"{'token':<10} {home.token_file}")
    say(text("ready at {time}; Ctrl-C stops everything", time=time.strftime("%H:%M:%S")))
