"""Two hundred and more hostile model files, at every door a model comes in by; the canary never fires.

Each refusal is FAILED_PRECONDITION with a reason, and the server goes on.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import grpc
import numpy as np
import pytest
from safetensors.numpy import save

from konomi.errors import FailedPrecondition, from_rpc_error
from konomi.v1 import generator_pb2 as pb
from konomi.v1.generator_pb2_grpc import GeneratorServiceStub, add_GeneratorServiceServicer_to_server
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.server import ServedService, start
from konomi_chassis.settings import ServerSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.backends.diffusers.adapters import check_adapter
from konomi_generator.generator import Generator
from konomi_generator.rules import RULES
from konomi_generator.servicer import GeneratorServicer
from konomi_generator.settings import GeneratorSettings
from tests.generator.conftest import OneByOne

DTYPES = ["", "F31", "f32", "OBJECT", "PICKLE", "C64", "F4", "I128", None, 7, ["F32"], {"F32": 1}, True, "F32\0"]
SHAPES = [None, "1", -1, [-1], [1.5], [True], ["1"], [[1]], [1 << 62], [1 << 40, 1 << 40], [1] * 40, {}, [None], 1]
OFFSETS = [
    None,
    [],
    [0],
    [0, 4, 8],
    [4, 0],
    [-4, 0],
    [0, 1 << 62],
    ["0", "4"],
    [0.0, 4.0],
    [1, 5],
    [0, 3],
    {},
    [False, 4],
]


class Canary:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def packed(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def containers(canary: Path) -> dict[str, bytes]:
    """Pickles as they are, in archives, in archives in archives, and with bytes of safetensors around them."""
    found: dict[str, bytes] = {}
    good = save({"a": np.ones(4, np.float32)})
    for protocol in range(6):
        payload = pickle.dumps(Canary(canary), protocol)
        zipped, tarred = io.BytesIO(), io.BytesIO()
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", payload)
            archive.writestr("archive/version", "3")
        with tarfile.open(fileobj=tarred, mode="w") as archive:
            info = tarfile.TarInfo("../../data.pkl")
            info.size = len(payload)
            archive.addfile(info, io.BytesIO(payload))
        forms = {
            "pickle": payload,
            "zip": zipped.getvalue(),
            "tar": tarred.getvalue(),
            "gzip": gzip.compress(payload),
            "bzip2": bz2.compress(payload),
            "xz": lzma.compress(payload),
            "7z": b"7z\xbc\xaf\x27\x1c\x00\x04" + payload,
            "rar": b"Rar!\x1a\x07\x01\x00" + payload,
            "zip in gzip": gzip.compress(zipped.getvalue()),
            "pickle before safetensors": payload + good,
            "pickle behind safetensors": good + payload,
            "zip behind safetensors": good + zipped.getvalue(),
            "pickle as header": packed(payload),
            "pickle as data of no tensor": packed({}, payload),
            "pickle in the metadata": packed({"__metadata__": {"a": [payload.hex()]}, "x": entry()}, bytes(4)),
        }
        found |= {f"{name} {protocol}": data for name, data in forms.items()}
    return found


def headers() -> dict[str, bytes]:
    """Headers that lie, overflow, overlap, repeat or bloat."""
    found = {f"dtype {dtype!r}": packed({"a": entry(dtype)}, bytes(4)) for dtype in DTYPES}
    found |= {f"shape {str(shape)[:30]}": packed({"a": entry(shape=shape)}, bytes(4)) for shape in SHAPES}
    found |= {f"offsets {offsets}": packed({"a": entry(offsets=offsets)}, bytes(8)) for offsets in OFFSETS}
    two = {"a": entry(), "b": entry(offsets=[2, 6]), "c": entry(offsets=[4, 8])}
    found |= {
        "bloated": struct.pack("<Q", 9_000_000) + b"{}" + b" " * 8_999_998,
        "longer than the file": struct.pack("<Q", 1 << 40) + b"{}",
        "negative length": struct.pack("<q", -1) + b"{}",
        "no length": b"{}",
        "zero length": struct.pack("<Q", 0),
        "too many tensors": packed({f"t{n}": entry(shape=[0], offsets=[0, 0]) for n in range(20_001)}),
        "deep": packed(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "huge number": packed(b'{"a":' + b"9" * 50_000 + b"}"),
        "NaN": packed(b'{"a": NaN}'),
        "name twice": packed(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":1}', bytes(4)),
        "overlap": packed(two, bytes(8)),
        "the same bytes twice": packed({"a": entry(), "b": entry()}, bytes(4)),
        "gap": packed({"a": entry(offsets=[4, 8])}, bytes(8)),
        "rest": packed({"a": entry()}, bytes(99)),
        "list": packed([1, 2]),
        "text": packed(b'"hello"'),
        "not UTF-8": packed(b'{"\xff\xfe":1}'),
        "NUL in a name": packed({"a\0b": entry()}, bytes(4)),
        "path as name": packed({"\n../../etc/passwd": entry()}, bytes(4)),
        "long name": packed({"n" * 5000: entry()}, bytes(4)),
        "metadata nested": packed({"__metadata__": {"a": {"b": 1}}, "a": entry()}, bytes(4)),
        "metadata a list": packed({"__metadata__": ["a"], "a": entry()}, bytes(4)),
        "more keys": packed({"a": entry() | {"code": "import os"}}, bytes(4)),
        "program": b"\x7fELF\x02\x01\x01" + bytes(200),
        "script": b"#!/bin/sh\ntouch canary\n" * 20,
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(200),
        "GGUF": b"GGUF\x03\0\0\0" + bytes(200),
        "empty": b"",
    }
    return found


def damaged(count: int) -> dict[str, bytes]:
    """Good files with the header's first bytes, its end, or its length spoiled."""
    rng, found = random.Random(5), {}
    good = save({"a": np.ones((4, 4), np.float32), "b": np.zeros(7, np.float16)}, {"format": "pt"})
    for number in range(count):
        data = bytearray(good)
        place = [rng.randrange(0, 8), 8, len(good) - 1][number % 3]
        if number % 3 == 2:
            del data[-rng.randrange(1, 90) :]
        else:
            data[place] ^= rng.randrange(1, 256)
        found[f"damaged {number}"] = bytes(data)
    return found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], Path]:
    canary = tmp_path_factory.mktemp("canary") / "fired"
    return containers(canary) | headers() | damaged(60), canary


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, home: Path):
    """A real server over a home of its own that holds the tiny starter and room for hostile models."""
    own = tmp_path_factory.mktemp("hostile-home")
    (own / "models").mkdir()
    (own / "models" / "starter").symlink_to(home / "models" / "starter")
    store, decoder = ArtifactStore(StoreSettings(home=own)), Decoder()
    settings = GeneratorSettings(home=own, threads=1, device="cpu")
    generator = Generator(BaseModels(own), store, OneByOne(settings), decoder, writers=1, max_side=512)
    service = ServedService(
        "konomi.v1.GeneratorService", add_GeneratorServiceServicer_to_server, GeneratorServicer(generator), RULES
    )
    server = start("generator", [service], ServerSettings(home=own), store)
    token = (own / "tokens" / "owner.token").read_text().strip()
    with grpc.insecure_channel(server.address) as channel:
        options = {"metadata": (("authorization", f"Bearer {token}"),), "timeout": 60}
        yield own, store, GeneratorServiceStub(channel), options
    server.stop(5.0)
    generator.close()
    decoder.close()


def test_there_are_more_than_two_hundred_of_them(hostile: tuple[dict[str, bytes], Path]) -> None:
    assert len(set(hostile[0].values())) >= 200


def test_as_a_base_model_file_none_is_read(hostile: tuple[dict[str, bytes], Path], served) -> None:
    own, _, stub, options = served
    file = own / "models" / "evil.safetensors"
    for what, data in hostile[0].items():
        file.write_bytes(data)
        with pytest.raises(grpc.RpcError) as caught:
            stub.InspectModel(pb.InspectModelRequest(id="evil"), **options)
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UNSAFE_FORMAT"), what
        assert "refused: " in error.message and "/" not in error.message.partition("refused")[0], what
        assert not hostile[1].exists(), what
    file.unlink()


@pytest.mark.slow
def test_as_an_adapter_none_is_read(hostile: tuple[dict[str, bytes], Path], served) -> None:
    _, store, stub, options = served
    image = pb.ImageRequest(prompt="x", seed=1)
    for what, data in hostile[0].items():
        with pytest.raises(FailedPrecondition) as refused:
            check_adapter("0" * 64, data)
        assert refused.value.reason == "UNSAFE_FORMAT", what
    for what, data in list(hostile[0].items())[::9]:  # the same door, over the wire
        adapter = pb.Adapter(digest=store.put(data, "application/octet-stream").digest)
        request = pb.GenerateImagesRequest(images=[image], adapters=[adapter], steps=1)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.GenerateImages(request, **options))
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UNSAFE_FORMAT"), what
        assert not hostile[1].exists(), what
    (made,) = stub.GenerateImages(pb.GenerateImagesRequest(images=[image], steps=1), **options)
    assert made.artifact.digest


@pytest.mark.slow
def test_in_a_folder_none_is_read_whatever_part_it_stands_for(
    hostile: tuple[dict[str, bytes], Path], served, home: Path
) -> None:
    own, _, stub, options = served
    folder = own / "models" / "folder"
    parts = [path.relative_to(home / "models" / "sd1") for path in (home / "models" / "sd1").rglob("*.safetensors")]
    for path in (home / "models" / "sd1").rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            (folder / path.relative_to(home / "models" / "sd1")).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(home / "models" / "sd1")).symlink_to(path)
    for part in parts:
        (folder / part).symlink_to(home / "models" / "sd1" / part)
    assert stub.InspectModel(pb.InspectModelRequest(id="folder"), **options).layout == pb.MODEL_LAYOUT_SD1
    for number, (what, data) in enumerate(list(hostile[0].items())[::5]):
        part = folder / parts[number % len(parts)]
        part.unlink()
        part.write_bytes(data)
        with pytest.raises(grpc.RpcError) as caught:
            stub.InspectModel(pb.InspectModelRequest(id="folder"), **options)
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UNSAFE_FORMAT"), what
        part.unlink()
        part.symlink_to(home / "models" / "sd1" / parts[number % len(parts)])
    assert not hostile[1].exists()
