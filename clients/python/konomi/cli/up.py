"""`konomi up`: rater, generator, trainer and the page on this machine until Ctrl-C."""

import importlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer

from konomi.cli.console import Json, emit, note, say
from konomi.client import Client
from konomi.errors import Cancelled, KonomiError
from konomi.home import Home
from konomi.host import extras
from konomi.host.signals import stop_signals
from konomi.host.supervisor import Services, check_ports, is_free, running
from konomi.i18n.catalogue import text

USUAL_PORTS = {"rater": 50051, "generator": 50052, "trainer": 50053}
"""Taken where they are free; a home that finds one taken gets another."""

OFFER_SECONDS = 60.0
"""How often a morning's message that nobody took is offered again."""

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")]


def up(
    as_json: Json = False,
    port_rater: Port = None,
    port_generator: Port = None,
    port_trainer: Port = None,
    port_page: Port = None,
) -> None:
    """Start rater, generator, trainer and the page here; Ctrl-C stops cleanly.

    Example: konomi up
    """
    ports = choose_ports({"rater": port_rater, "generator": port_generator, "trainer": port_trainer})
    hold_up(Home.locate(), ports, port_page, as_json, lambda link: None)


def hold_up(
    home: Home, ports: Mapping[str, int], port_page: int | None, as_json: bool, ready: Callable[[str], None]
) -> None:
    """Runs everything on a home until a signal; `ready` is given the page's link once all is up."""
    if not home.is_up():
        check_ports(ports)  # the page's settings bring libraries along, and a taken port shall not wait for them
        check_ports({**ports, **_page_port(home, port_page)})  # before anything starts, which takes some seconds
    with stop_signals() as stopped:
        note(text("starting on {home}, which takes some seconds…", home=home.root))
        threading.Thread(target=_import_page, name="import-page", daemon=True).start()
        try:
            with (
                running(home, ports=ports, give_up=stopped.is_set) as services,
                page(home, services, port_page) as link,
            ):
                _announce(services, home, link, as_json)
                ready(link)
                offered = time.monotonic()
                while not stopped.wait(0.2):
                    services.check()
                    if time.monotonic() - offered > OFFER_SECONDS:
                        _offer(home)
                        offered = time.monotonic()
                note(text("stopping…"))
        except Cancelled:
            note(text("stopped before everything was up"))


def _offer(home: Home) -> None:
    """Offers the messages that wait; what keeps them from being sent is said, and stops nothing."""
    if extras.missing("overnight"):
        return
    from konomi.night.report.notification import offer

    try:
        offer(home.root)
    except KonomiError as error:
        note(error.message)


def _import_page() -> None:
    """Imports the page's libraries while the services start; where they are not installed, `page` says so."""
    if not extras.missing("web"):
        importlib.import_module("konomi.web.server")


@contextmanager
def page(home: Home, services: Services, port: int | None) -> Iterator[str]:
    """Serves the page beside the roles and yields a link that opens it once; an empty one where it is not installed."""
    absent = extras.missing("web")
    if absent:
        note(text("no page: not installed: {module}; run: {line}", module=absent[0], line=extras.pip_line("web")))
        yield ""
        return
    from konomi.web.auth import link
    from konomi.web.server import serving
    from konomi.web.settings import PageSettings

    settings = PageSettings(home=home.root) if port is None else PageSettings(home=home.root, page_port=port)
    with (
        Client.from_addresses(services.addresses, home=home.root) as client,
        serving(home, lambda: client, settings) as address,
    ):
        home.announce(services.addresses | {"token_file": str(home.token_file), "page": address})
        yield link(home)


def _page_port(home: Home, port: int | None) -> dict[str, int]:
    """Returns the port asked for the page, on the command line or in konomi.toml; none where any will do."""
    if extras.missing("web"):
        return {}
    from konomi.web.settings import PageSettings

    settings = PageSettings(home=home.root)
    asked = settings.page_port if port is None else port
    return {"page": asked} if asked and settings.page_host in ("127.0.0.1", "localhost") else {}


def choose_ports(asked: Mapping[str, int | None]) -> dict[str, int]:
    """Returns the port of each role: the one asked for, else its usual one where that is free, else any."""
    return {
        role: port if port is not None else (USUAL_PORTS[role] if is_free(USUAL_PORTS[role]) else 0)
        for role, port in asked.items()
    }


def _announce(services: Services, home: Home, link: str, as_json: bool) -> None:
    if as_json:
        emit(services.addresses | {"page": link, "token_file": str(home.token_file)})
        return
    for role, address in services.addresses.items():
        say(f"{role:<10} {address}")
    say(f"{'token':<10} {home.token_file}")
    if link:
        say(f"{'page':<10} {link}")
    say(text("ready at {time}; Ctrl-C stops everything", time=time.strftime("%H:%M:%S")))
