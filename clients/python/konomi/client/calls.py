"""The four kinds of rpc as Python callables: keywords in, replies out, a deadline always, konomi errors only."""

import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from konomi.client.channel import ATTEMPTS, FIRST_PAUSE, LONGEST_PAUSE, Link, is_idempotent
from konomi.client.load import load_metadata
from konomi.errors import InvalidArgument, KonomiError, Unavailable, from_rpc_error
from konomi.i18n.catalogue import text

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)
Result = TypeVar("Result")

DEFAULT_SECONDS = 30.0
"""Deadline of a call that is not in the table below and names none itself."""

DEADLINES = {
    "ScoreImages": 120.0,
    "SuggestImages": 120.0,
    "SearchImages": 120.0,
    "ExploreNovelty": 120.0,
    "MapImages": 120.0,
    "AdviseEmbedder": 120.0,
    "InspectModel": 120.0,
    **dict.fromkeys(("CreateTaste", "CreateTrainingRun", "CancelTrainingRun", "FinishTrainingRun"), 120.0),
    **dict.fromkeys(("PromoteModel", "RollbackModel", "MeasureImages"), 120.0),
    "PutArtifact": 300.0,
    "GetArtifact": 300.0,
    "SelectImages": 600.0,
    "CollectImages": 600.0,
    "CollectCheckpoints": 600.0,
    "ExportModel": 600.0,
    "MergeModels": 1800.0,
    "RetrieveImages": 1800.0,
    "FitRater": 1800.0,
    "FitPopulation": 1800.0,
    "ExportTaste": 1800.0,
    "ExportLineage": 1800.0,
    "ImportTaste": 1800.0,
    "ImportLineage": 1800.0,
    "AddImages": 3600.0,
    "ChangeEmbedder": 24 * 3600.0,
    "ScoreImageStream": 24 * 3600.0,
    "GenerateImages": 24 * 3600.0,
    "WatchTrainingRun": 24 * 3600.0,
}
"""Seconds a call may take unless it says otherwise with `timeout=`; a service that has just started is still loading
its libraries, and what needs them waits for that."""


class _Call(Generic[Request, Reply]):
    """What the four kinds share: the rpc, its request class and how its failures read."""

    def __init__(self, rpc: Any, method: MethodDescriptor, link: Link) -> None:
        self._rpc = rpc
        self._request_class: type[Message] = GetMessageClass(method.input_type)
        self._name = method.name
        self._idempotent = is_idempotent(method)
        self._link = link

    def _options(self, timeout: float | None, message: Message | None = None) -> dict[str, Any]:
        seconds = DEADLINES.get(self._name, DEFAULT_SECONDS) if timeout is None else timeout
        load = () if message is None else load_metadata(message)
        return {"timeout": seconds, "metadata": (*self._link.metadata, *load)}

    def _message(self, request: Request | None, fields: dict[str, Any]) -> Message:
        """Returns the request to send: the given message or one made of the keywords, its request_id filled in.

        Raises:
            InvalidArgument: a keyword is no field of the request, or its value has the wrong type.
        """
        if request is not None and fields:
            raise InvalidArgument(f"{self._name} takes a request message or its fields as keywords, not both")
        try:
            message = self._request_class(**fields) if request is None else request
        except (TypeError, ValueError) as error:
            names = ", ".join(field.name for field in self._request_class.DESCRIPTOR.fields)
            raise InvalidArgument(f"{self._name} takes the fields {names}: {error}") from error
        if "request_id" in message.DESCRIPTOR.fields_by_name and not message.request_id:  # type: ignore[attr-defined]
            message = type(message).FromString(message.SerializeToString())
            message.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
        return message


def _again(call: Callable[[], Result]) -> Result:
    """Calls until the server is available, as often and with the pauses the service config has for single requests."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return call()
        except Unavailable:
            time.sleep(min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE))
    return call()


class Unary(_Call[Request, Reply]):
    """One request, one reply."""

    def __call__(self, request: Request | None = None, /, *, timeout: float | None = None, **fields: Any) -> Reply:
        """Calls the rpc.

        Args:
            request: the request message; or give its fields as keywords.
            timeout: seconds until DeadlineExceeded; the table's where none is given.
            **fields: fields of the request.

        Raises:
            KonomiError: whatever went wrong, as one of its subclasses.
        """
        message = self._message(request, fields)
        try:
            reply: Reply = self._rpc(message, **self._options(timeout, message))
        except grpc.RpcError as error:
            raise readable(error, self._link.address) from error
        return reply


class ServerStream(_Call[Request, Reply]):
    """One request, many replies."""

    def __call__(
        self, request: Request | None = None, /, *, timeout: float | None = None, **fields: Any
    ) -> "Replies[Reply]":
        """Calls the rpc; errors are raised while its replies are read."""
        message = self._message(request, fields)
        return Replies(self._rpc(message, **self._options(timeout, message)), self._link.address)


class ClientStream(_Call[Request, Reply]):
    """Many requests, one reply."""

    def __call__(self, requests: Iterable[Request], /, *, timeout: float | None = None) -> Reply:
        """Sends all requests and returns the reply; an exception of `requests` itself is raised as it is.

        Requests of an idempotent rpc given as a sequence are sent again while the server is unavailable.
        """
        if isinstance(requests, Sequence) and self._idempotent:
            return _again(lambda: self._once(requests, timeout))
        return self._once(requests, timeout)

    def _once(self, requests: Iterable[Request], timeout: float | None) -> Reply:
        source = _Source(requests)
        try:
            reply: Reply = self._rpc(source, **self._options(timeout))
        except grpc.RpcError as error:
            raise source.failure or readable(error, self._link.address) from error
        return reply


class BidiStream(_Call[Request, Reply]):
    """Many requests, many replies."""

    def __call__(self, requests: Iterable[Request], /, *, timeout: float | None = None) -> "Replies[Reply]":
        """Sends requests as they come and returns the replies as they come."""
        source = _Source(requests)
        return Replies(self._rpc(source, **self._options(timeout)), self._link.address, source)

    def exchange(self, requests: Sequence[Request], /, *, timeout: float | None = None) -> list[Reply]:
        """Sends requests and returns their replies, one each; idempotent ones again while the server is unavailable.

        Raises:
            KonomiError: what ended the stream; Unavailable where it ended with a reply missing.
        """

        def once() -> list[Reply]:
            replies = list(self(requests, timeout=timeout))
            if len(replies) != len(requests):
                message = text(
                    "{rpc} answered {count} of {wanted} requests; try again",
                    rpc=self._name,
                    count=len(replies),
                    wanted=len(requests),
                )
                raise Unavailable(message, reason="CUT_SHORT")
            return replies

        return _again(once) if self._idempotent else once()


class Replies(Generic[Reply]):
    """The replies of a stream; iterate it, or cancel it. As a context manager it cancels what is left."""

    def __init__(self, call: Any, address: str, source: "_Source[Any] | None" = None) -> None:
        self._call = call
        self._address = address
        self._source = source

    def __iter__(self) -> Iterator[Reply]:
        return self

    def __next__(self) -> Reply:
        try:
            reply: Reply = next(self._call)
        except grpc.RpcError as error:
            failure = self._source.failure if self._source else None
            raise failure or readable(error, self._address) from error
        return reply

    def cancel(self) -> None:
        """Tells the server to stop; reading on raises Cancelled."""
        self._call.cancel()

    def __enter__(self) -> "Replies[Reply]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()


class _Source(Generic[Request]):
    """Requests on their way out; remembers why they stopped, because grpc would only log it."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._requests = iter(requests)
        self.failure: Exception | None = None

    def __iter__(self) -> "_Source[Request]":
        return self

    def __next__(self) -> Request:
        try:
            return next(self._requests)
        except StopIteration:
            raise
        except Exception as error:
            self.failure = error
            raise


class Service:
    """A service whose rpcs are attributes in snake_case, made from its descriptor; subclasses declare their types."""

    descriptor: ClassVar[ServiceDescriptor]
    stub_class: ClassVar[type[Any]]

    def __init__(self, link: Link) -> None:
        stub = self.stub_class(link.channel)
        for method in self.descriptor.methods:
            setattr(self, snake(method.name), kind_of(method)(getattr(stub, method.name), method, link))


def kind_of(method: MethodDescriptor) -> type[_Call[Any, Any]]:
    """Returns which of the four kinds a method is."""
    kinds: dict[tuple[bool, bool], type[_Call[Any, Any]]] = {
        (False, False): Unary,
        (False, True): ServerStream,
        (True, False): ClientStream,
        (True, True): BidiStream,
    }
    return kinds[method.client_streaming, method.server_streaming]


def snake(name: str) -> str:
    """Returns an rpc's name as Python writes it: ScoreImages → score_images."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def readable(error: grpc.RpcError, address: str) -> KonomiError:
    """Returns the konomi error of a failed rpc; where nothing answered it says what to do about it."""
    failure = from_rpc_error(error)
    if isinstance(failure, Unavailable) and not failure.served:
        message = text(
            "no konomi service answers at {address} ({why}); check address, TLS and client certificate, or start it: "
            "konomi up",
            address=address,
            why=failure.message,
        )
        return Unavailable(message, reason="UNREACHABLE")
    return failure
