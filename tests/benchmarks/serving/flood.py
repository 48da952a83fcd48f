"""A caller that keeps to a clock, not to the answers: so many ScoreImages a second, each a 4k photograph (open loop).

As a script, a process of its own: `python -m tests.benchmarks.serving.flood ADDRESS TOKEN IMAGE RATE CALLERS SECONDS`.
With a RATE of 0 it is a closed loop: so many CALLERS that each send the next image when the last is answered, and come
back after a refusal when they were asked to; with a
negative RATE they come back every half second, whatever they heard.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import grpc

from konomi.client.load import load_metadata
from konomi.errors import from_rpc_error
from konomi.v1 import rater_pb2 as pb
from tests.benchmarks.serving.rig import TASTE

RPC = "/konomi.v1.RaterService/ScoreImages"
CHANNELS = 4
PAUSE = 0.5
"""Seconds after which a caller that does not listen comes back from a refusal; its server asks for one at least."""


class Flood:
    """Sends, and keeps what came of it."""

    def __init__(self, address: str, token: str, image: Path) -> None:
        content = image.read_bytes()
        self._request = pb.ScoreImagesRequest(taste=f"tastes/{TASTE}", images=[pb.ImageInput(content=content)])
        self._data = self._request.SerializeToString()
        self._metadata = (("authorization", f"Bearer {token}"), *load_metadata(self._request))
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
        self._calls = [grpc.aio.insecure_channel(address, options).unary_unary(RPC) for _ in range(CHANNELS)]
        self._served: list[float] = []
        self._refused: list[float] = []
        self._failed: dict[str, int] = {}

    async def run(self, rate: float, callers: int, seconds: float) -> dict[str, object]:
        """Sends for so long and returns what came of it."""
        began = time.monotonic()
        if rate > 0:
            tasks = []
            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                tasks.append(asyncio.create_task(self._call(number)))
            ended = time.monotonic()
            served = len(self._served)
            await asyncio.gather(*tasks)
        else:
            await asyncio.gather(*(self._again(number, began + seconds, rate == 0) for number in range(callers)))
            ended, served = time.monotonic(), len(self._served)
        return {
            "goodput": served / (ended - began),
            "served_p99": _p99(self._served),
            "refused": len(self._refused),
            "refused_p99": _p99(self._refused),
            "failed": self._failed,
        }

    async def _again(self, number: int, until: float, listens: bool) -> None:
        while (left := until - time.monotonic()) > 0:
            asked = await self._call(number)
            if asked is not None:
                await asyncio.sleep(min(left, asked if listens else PAUSE))

    async def _call(self, number: int) -> float | None:
        """Sends one image; returns after how many seconds to come back where that was refused."""
        began = time.monotonic()
        try:
            await self._calls[number % CHANNELS](self._data, metadata=self._metadata, timeout=60)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                self._refused.append(time.monotonic() - began)
            else:
                name = error.code().name
                self._failed[name] = self._failed.get(name, 0) + 1
            return from_rpc_error(error).retry_after or PAUSE
        self._served.append(time.monotonic() - began)
        return None


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * len(seconds))] if seconds else 0.0


async def _main(address: str, token: str, image: str, rate: str, callers: str, seconds: str) -> None:
    flood = Flood(address, token, Path(image))
    print(json.dumps(await flood.run(float(rate), int(callers), float(seconds))), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:7]))
