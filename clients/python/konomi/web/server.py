"""Runs the page in a thread of the client process, from its settings to its address."""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from konomi.client import Client
from konomi.errors import FailedPrecondition, Internal
from konomi.home import Home
from konomi.i18n.catalogue import text
from konomi.web.app import PageApplication
from konomi.web.auth import SessionAuth
from konomi.web.connections import TimedConnection
from konomi.web.settings import USUAL_PORT, PageSettings

START_SECONDS = 20.0
STOP_SECONDS = 5.0
BACKLOG = 2048
"""Connections that wait to be taken; the page's own default."""


@contextmanager
def serving(home: Home, client: Callable[[], Client], settings: PageSettings) -> Iterator[str]:
    """Serves the page and yields its address, "http://127.0.0.1:PORT".

    Args:
        home: home folder; its page keys and caches lie in it.
        client: returns the client of now.
        settings: where to listen.

    Raises:
        FailedPrecondition: the address is not this machine's alone and there is no certificate, or the port is taken.
    """
    if not _is_loopback(settings.page_host) and not (settings.page_certificate and settings.page_key):
        raise FailedPrecondition(
            text(
                "the page may listen on {host} only with page_certificate and page_key in konomi.toml",
                host=settings.page_host,
            ),
            reason="PAGE_WITHOUT_TLS",
        )
    listener = _listen(settings)
    port = listener.getsockname()[1]
    scheme = "https" if settings.page_certificate else "http"
    names = (f"{settings.page_host}:{port}", f"localhost:{port}", *settings.page_names)
    page = PageApplication(home, client, frozenset(f"{scheme}://{name}" for name in names), SessionAuth(home))
    server = uvicorn.Server(_configuration(page, settings))
    thread = threading.Thread(target=server.run, args=([listener],), name="page", daemon=True)
    thread.start()
    try:
        _wait(server, thread)
        yield f"{scheme}://{settings.page_host}:{port}"
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)
        page.close()
        listener.close()


def _configuration(page: PageApplication, settings: PageSettings) -> uvicorn.Config:
    return uvicorn.Config(
        page.app,  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        http=TimedConnection,
        backlog=BACKLOG,
        limit_concurrency=512,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        ssl_certfile=settings.page_certificate,
        ssl_keyfile=settings.page_key,
    )


def _listen(settings: PageSettings) -> socket.socket:
    """Returns a socket that listens: on the port asked for, else the usual one where it is free, else any."""
    chosen = settings.page_port
    for port in (USUAL_PORT, 0) if chosen is None else (chosen,):
        family = socket.AF_INET6 if ":" in settings.page_host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # only so does asyncio set no-delay
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.page_host, port))
            listener.listen(BACKLOG)  # of two that bound a port one alone may listen: known here, not in the thread
        except OSError as error:
            listener.close()
            if chosen is not None:
                place = f"{settings.page_host}:{port} ({error.strerror})"
                message = text("the page cannot listen on {place}: choose another --port-page", place=place)
                raise FailedPrecondition(message) from error
        else:
            return listener
    raise Internal(text("no port was free for the page"))


def _wait(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise Internal(text("the page did not start"))
        time.sleep(0.02)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
