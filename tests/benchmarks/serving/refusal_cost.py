"""L1: what refusing a call costs the server, beside a gRPC server that does nothing else.

`python -m tests.benchmarks.serving.refusal_cost`, in milliseconds of processor time. Who does not keep to the times a
refusal names takes at least this much from the work at every call, whatever is done about it: the bare server is the
least that grpc's Python server takes to answer a call with a status, its message unread. Both get the same calls.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from konomi.client.load import BYTES_KEY, PIXELS_KEY
from konomi.v1 import rater_pb2 as pb
from konomi_chassis import server as chassis
from konomi_chassis.auth.authentication import issue_token
from konomi_chassis.process import switch_threads_often
from konomi_chassis.settings import ServerSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_rater.servicer.rules import RULES
from tests.benchmarks.results import Figure, report

RPC = "/konomi.v1.RaterService/ScoreImages"
IMAGE_BYTES = 600_000
AT_ONCE = 8


class Bare(grpc.GenericRpcHandler):
    """Refuses every call with a status."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """Returns the handler that refuses."""

        def refuse(_requests: Any, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")

        return grpc.stream_stream_rpc_method_handler(refuse)


class Full:
    """A rater whose one place is taken for as long as it is wanted."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def score(self, request: pb.ScoreImagesRequest, context: grpc.ServicerContext) -> pb.ScoreImagesResponse:
        """Waits."""
        self.entered.set()
        self.release.wait()
        return pb.ScoreImagesResponse()


async def send(address: str, token: str, count: int) -> None:
    """Sends so many calls with an image each, some at once, and expects every one to be refused."""
    metadata = (("authorization", f"Bearer {token}"), (BYTES_KEY, str(IMAGE_BYTES)), (PIXELS_KEY, "8294400"))
    turn = asyncio.Semaphore(AT_ONCE)
    async with grpc.aio.insecure_channel(address) as channel:
        score: Any = channel.unary_unary(RPC)

        async def one() -> None:
            async with turn:
                try:
                    await score(bytes(IMAGE_BYTES), metadata=metadata, timeout=60)
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error
                else:
                    raise AssertionError("a call was served")

        await asyncio.gather(*(one() for _ in range(count)))


def _add(full: Full, server: grpc.Server) -> None:
    handler = grpc.unary_unary_rpc_method_handler(
        full.score,
        request_deserializer=pb.ScoreImagesRequest.FromString,
        response_serializer=pb.ScoreImagesResponse.SerializeToString,
    )
    service, method = RPC.strip("/").split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))


def cost(address: str, token: str, count: int) -> float:
    """Returns the seconds of this process' processor time that each of so many refused calls takes."""
    command = [sys.executable, "-m", "tests.benchmarks.serving.refusal_cost", "--send", address, token, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as sender:
        assert sender.stdout is not None and sender.stdin is not None
        sender.stdout.readline()
        began = time.process_time()
        sender.stdin.write("\n")
        sender.stdin.flush()
        sender.stdout.readline()
        taken = time.process_time() - began
    assert sender.returncode == 0
    return taken / count


def bare(count: int) -> float:
    """Returns the cost of a refusal by grpc alone."""
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.http2.bdp_probe", 0)])
    server.add_generic_rpc_handlers((Bare(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        return cost(f"127.0.0.1:{port}", "none", count)
    finally:
        server.stop(0).wait()


def ours(count: int) -> float:
    """Returns the cost of a refusal by a rater that is full."""
    with tempfile.TemporaryDirectory() as folder:
        home, full = Path(folder), Full()
        token = issue_token(home, "flood", "tool", "bench")
        service = chassis.ServedService("konomi.v1.RaterService", _add, full, RULES)
        settings = ServerSettings(home=home, port=0, max_in_flight_per_principal=1)
        running = chassis.start("rater", [service], settings, ArtifactStore(StoreSettings(home=home)))
        try:
            with grpc.insecure_channel(running.address) as channel:
                request = pb.ScoreImagesRequest(taste="tastes/bench", images=[pb.ImageInput(content=b"x")])
                score: Any = channel.unary_unary(RPC, request_serializer=pb.ScoreImagesRequest.SerializeToString)
                held = score.future(request, metadata=(("authorization", f"Bearer {token}"),))
                assert full.entered.wait(60)
                taken = cost(running.address, token, count)
                full.release.set()
                held.result()
            return taken
        finally:
            running.stop(5)


def main() -> None:
    """Measures both in turns and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=4000, help="calls a turn")
    arguments = parser.parse_args()
    switch_threads_often()  # as a role does
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    turns = [(bare(arguments.count), ours(arguments.count)) for _ in range(3)]
    least, taken = (1000 * sorted(column)[1] for column in zip(*turns, strict=True))
    what = "a refused call: processor time of the server, against a bare gRPC server"
    report("refusal", [Figure("L1", what, taken, least, "ms", 3 * arguments.count)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        print("ready", flush=True)
        sys.stdin.readline()
        asyncio.run(send(sys.argv[2], sys.argv[3], int(sys.argv[4])))
        print("done", flush=True)
    else:
        main()
