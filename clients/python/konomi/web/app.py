"""The page's application: its files, images by digest, Connect-JSON, and endpoints of its own, behind the guard."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from konomi.client import Client
from konomi.client.messages import plain
from konomi.errors import KonomiError, NotFound
from konomi.home import Home
from konomi.i18n import catalogue
from konomi.i18n.catalogue import speaking
from konomi.night.records.store import NightStore
from konomi.taste.embedder import lines, reading_lines
from konomi.taste.provenance import explain
from konomi.taste.rater_summary import alarms, embedders_compared
from konomi.web.auth import COOKIE, SESSION_SECONDS, BearerCheck, SessionAuth
from konomi.web.connect import Relay
from konomi.web.grading_queue import GradingQueues
from konomi.web.images import ImageEndpoints
from konomi.web.nights import NightEndpoints, NightForm, QueueEndpoints, Verdicts
from konomi.web.responses import Asked, Endpoint, SpokenByReader, answer, failure, read, serve, text
from konomi.web.security import Guard
from konomi.web.static_files import StaticFiles
from konomi.web.uploads.endpoints import UploadEndpoints

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-popups"
"""A report is one file with its style and pictures inside; it runs nothing and reaches nothing."""


class PageApplication:
    """Everything the page serves, as one ASGI application in `app`.

    Args:
        home: the home it belongs to.
        client: returns the client of now, which holds the owner's token.
        origins: exact origins it answers to.
        auth: knows tickets and cookies.
    """

    def __init__(self, home: Home, client: Callable[[], Client], origins: frozenset[str], auth: SessionAuth) -> None:
        self._home, self._client, self._auth = home, client, auth
        self._secure = any(origin.startswith("https://") for origin in origins)
        self._workers = ThreadPoolExecutor(8, "page")
        self._images = ImageEndpoints(client, home.root / "cache" / "page")
        self._queues = GradingQueues(client, home.root / "page", NightStore(home.root).asked_about)
        self._nights = NightEndpoints(home, lambda digest: client().artifacts.get(digest))
        self._form = NightForm(home, client)
        self._uploads = UploadEndpoints(client, home.root / "uploads")
        self._relay = Relay(client, self._queues.observe)
        self._bearers = BearerCheck(self._relay.ask_as)
        self.app = SpokenByReader(Guard(Starlette(routes=self._routes()), origins, auth, self._bearers))

    def close(self) -> None:
        """Lets go of workers and children."""
        self._images.close()
        self._relay.close()
        self._bearers.close()
        self._queues.close()
        self._uploads.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _endpoints(self) -> dict[str, Endpoint]:
        """Returns what the page asks of its own server, by name."""
        verdicts = Verdicts(self._nights, self._client)
        queue = QueueEndpoints(self._home, self._nights)
        return {
            "Sitting": self._queues.show,
            "Skip": self._queues.skip,
            "Unskip": self._queues.unskip,
            "NightSystems": self._nights.systems,
            "NightPlan": self._nights.plan,
            "NightStart": self._nights.start,
            "NightResume": self._nights.resume,
            "NightStop": self._nights.stop,
            "NightStatus": self._nights.status,
            "NightReport": self._nights.report,
            "NightLog": self._nights.log,
            "NightQueue": queue.show,
            "NightQueueAdd": queue.add,
            "NightQueueMove": queue.move,
            "NightQueueRemove": queue.remove,
            "NightQueueStart": queue.start,
            "NightBases": self._form.bases,
            "NightTrial": self._form.trial,
            "TastePrompts": self._form.prompts,
            "TastePromptsKeep": self._form.keep_prompts,
            "NightPairs": verdicts.pairs,
            "NightVerdict": verdicts.answer,
            "NightDecide": verdicts.decide,
            "UploadBegin": self._uploads.begin,
            "UploadFinish": self._uploads.finish,
            "UploadStatus": self._uploads.status,
            "UploadStop": self._uploads.stop,
            "EmbedderAdvice": self._embedder,
            "Explain": self._explain,
            "RaterAlarms": self._alarms,
        }

    def _routes(self) -> list[Route | Mount]:
        static = StaticFiles()
        own = [
            Route(f"/konomi.page/{name}", serve(endpoint, self._workers), methods=["POST"])
            for name, endpoint in self._endpoints().items()
        ]
        return [
            Route("/session", self._enter, methods=["POST"]),
            Route("/image/{digest}", self._images.image),
            Route("/thumb/{digest}", self._images.thumb),
            Route("/small/{digest}", self._images.small),
            Route("/report/{night}", self._report),
            Route("/konomi.page/UploadFile/{upload}", self._uploads.file, methods=["POST"]),
            *own,
            Route("/{path:path}", static.serve, methods=["GET"]),
            Mount("", self._relay),
        ]

    def _explain(self, asked: Asked) -> Mapping[str, object]:
        """Endpoint: where an image comes from and what became of it, as `konomi explain` says it."""
        taste, digest = text(asked, "taste", "tastes/default"), text(asked, "digest")
        return explain(self._client(), taste, digest).plain()

    def _alarms(self, asked: Asked) -> dict[str, list[str]]:
        """Endpoint: a version's alarms, and its embedder beside a second one, in the reader's language."""
        version = self._client().rater.get_rater_version(name=text(asked, "version"))
        with speaking(text(asked, "language", "en")):
            return {"alarms": alarms(version), "embedders": embedders_compared(version)}

    def _embedder(self, asked: Asked) -> Mapping[str, object]:
        """Endpoint: whether a taste's embedder knows its images and reads words, and what to run for one that does."""
        taste = text(asked, "taste", "tastes/default")
        advice = self._client().rater.advise_embedder(taste=taste)
        return plain(advice) | {"lines": lines(advice, taste), "text_lines": reading_lines(advice, taste)}

    async def _enter(self, request: Request) -> Response:
        """Changes a ticket into a cookie; without a ticket it says whether the cookie is good."""
        try:
            ticket = text(await read(request), "ticket")
            if not ticket:
                return answer({"known": self._auth.is_signed_in(request.cookies.get(COOKIE, ""))})
            cookie = self._auth.admit(ticket)
        except KonomiError as error:
            return failure(error)
        response = answer({"known": True})
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=SESSION_SECONDS,
            path="/",
            httponly=True,
            samesite="strict",
            secure=self._secure,
        )
        return response

    async def _report(self, request: Request) -> Response:
        try:
            path = self._nights.report_file(self._nights.folder(request.path_params["night"]).name)
            if not path.is_file():
                raise NotFound(catalogue.text("this night has no report yet"))
        except KonomiError as error:
            return failure(error)
        headers = {"content-security-policy": REPORT_POLICY}
        return Response(path.read_bytes(), media_type="text/html; charset=utf-8", headers=headers)
