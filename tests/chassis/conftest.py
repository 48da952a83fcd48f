"""A home, a store, a real server on a socket and callers of every kind."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool

from konomi.errors import KonomiError, NotFound, from_rpc_error
from konomi.v1 import generator_pb2_grpc, rater_pb2_grpc, trainer_pb2_grpc
from konomi_chassis.auth.authentication import issue_token
from konomi_chassis.server import RunningServer, ServedService, start
from konomi_chassis.settings import ServerSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_rater.servicer.rules import RULES as RATER_RULES


class Recorder:
    """A servicer of every service: notes which rpcs reached it, with what, and answers NOT_FOUND, reason REACHED."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.requests: list[Any] = []

    def __getattr__(self, rpc: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        if not rpc[0].isupper():
            raise AttributeError(rpc)

        def handler(request: Any, _context: grpc.ServicerContext) -> Any:
            self.requests.extend(request if isinstance(request, Iterator) else [request])
            self.reached.append(rpc)
            raise NotFound("The handler was reached.", reason="REACHED")

        return handler


ADDERS = {
    "konomi.v1.RaterService": rater_pb2_grpc.add_RaterServiceServicer_to_server,
    "konomi.v1.GeneratorService": generator_pb2_grpc.add_GeneratorServiceServicer_to_server,
    "konomi.v1.TrainerService": trainer_pb2_grpc.add_TrainerServiceServicer_to_server,
}


def service_of(name: str, servicer: Any, **hooks: Any) -> ServedService:
    """Returns a service; requests of the rater are checked by its own rules, others by none."""
    methods = descriptor_pool.Default().FindServiceByName(name).methods
    rules = {method.input_type.name: RATER_RULES.get(method.input_type.name, {}) for method in methods}
    return ServedService(name, ADDERS[name], servicer, rules, **hooks)


class Caller:
    """Calls any rpc by its full name with raw bytes, as any gRPC client could."""

    def __init__(self, address: str, token: str | None = None, channel: grpc.Channel | None = None) -> None:
        self.channel = channel or grpc.insecure_channel(address)
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def call(self, rpc: str, *messages: Any, timeout: float = 10.0, metadata: Any = None) -> list[bytes]:
        """Returns the answers' bytes; raises the konomi error."""
        method = self.channel.stream_stream(rpc)
        data = [message if isinstance(message, bytes) else message.SerializeToString() for message in messages]
        try:
            return list(method(iter(data), timeout=timeout, metadata=self.metadata if metadata is None else metadata))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def outcome(self, rpc: str, *messages: Any) -> tuple[str, str]:
        """Returns status name and reason."""
        try:
            self.call(rpc, *messages)
        except KonomiError as error:
            return error.code.name, error.reason
        return "OK", ""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> ArtifactStore:
    return ArtifactStore(StoreSettings(home=home, min_free_bytes=0))


@pytest.fixture
def serve(home: Path, store: ArtifactStore) -> Iterator[Callable[..., RunningServer]]:
    """Starts servers on free ports; stops them after the test."""
    with contextlib.ExitStack() as stack:

        def begin(servicer: Any, *names: str, owns_artifact: Any = None, **settings: Any) -> RunningServer:
            hooks = {"owns_artifact": owns_artifact}
            services = [service_of(name, servicer, **hooks) for name in names or ("konomi.v1.RaterService",)]
            running = start("test", services, ServerSettings(home=home, **settings), store)
            stack.callback(running.stop)
            return running

        yield begin


@pytest.fixture
def owner(home: Path) -> Callable[[RunningServer], Caller]:
    """Makes the owner's caller of a server."""
    return lambda running: Caller(running.address, (home / "tokens" / "owner.token").read_text().strip())


@pytest.fixture
def holder(home: Path) -> Callable[..., Caller]:
    """Makes a caller with a fresh token of some scope."""

    def make(running: RunningServer, scope: Any, taste: str | None = None, name: str = "someone") -> Caller:
        return Caller(running.address, issue_token(home, name, scope, taste))

    return make
