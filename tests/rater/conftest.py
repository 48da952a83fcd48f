"""A rater on a socket over a tiny random open_clip model, and images to feed it."""

import copy
import gzip
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from konomi.errors import from_rpc_error
from konomi.v1 import rater_pb2 as pb
from konomi.v1 import rater_pb2_grpc
from konomi_chassis.server import ServedService, start
from konomi_chassis.settings import ServerSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_rater.__main__ import build
from konomi_rater.storage.schema import SCHEMA
from tests.postgresql import Rows

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 600, "width": 32, "heads": 2, "layers": 1},
}


def make_embedder(folder: Path, seed: int = 0) -> None:
    """Writes a random open_clip model in the starter's layout."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    model = open_clip.CLIP(**json.loads(json.dumps(CONFIG)))
    save_file(
        {name: value.half().contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "model.json").write_text(json.dumps(CONFIG))
    with gzip.open(folder / "bpe.txt.gz", "wt", encoding="utf-8") as file:
        file.write("#version: 0.2\na b\nr e\n")


def png(colour: tuple[int, int, int], seed: int = 0, size: int = 32, kind: str = "PNG") -> bytes:
    """Returns an encoded image: a colour with a seeded pattern."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(np.array(colour) + rng.normal(0, 25, (4, 4, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((size, size), Image.Resampling.NEAREST).save(out, kind)
    return out.getvalue()


@dataclass
class Rater:
    """A running rater and what a test needs of it."""

    stub: rater_pb2_grpc.RaterServiceStub
    store: ArtifactStore
    home: Path
    address: str
    token: str
    channel: grpc.Channel

    def call(self, rpc: str, request):
        """Calls a unary rpc; a failure is a konomi error."""
        try:
            return getattr(self.stub, rpc)(request, timeout=60)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def stream(self, rpc: str, requests):
        """Calls a streaming rpc and returns all answers."""
        try:
            return list(getattr(self.stub, rpc)(requests, timeout=120))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def put(self, data: bytes, media_type: str = "image/png") -> str:
        """Stores bytes and returns their digest."""
        return self.store.put(data, media_type).digest

    def taste(self, taste_id: str = "default") -> str:
        """Creates a taste and returns its name."""
        return self.call("CreateTaste", pb.CreateTasteRequest(taste_id=taste_id, request_id=str(uuid.uuid4()))).name

    def add(self, taste: str, images: list[pb.Image]):
        """Adds images in one stream."""
        return self.stream("AddImages", iter([pb.AddImagesRequest(taste=taste, image=image) for image in images]))

    def label(self, taste: str, grades: dict[str, int], request_id: str | None = None, reason: int = 0):
        """Records grades."""
        labels = [pb.Label(image_digest=d, grade=g, reason=reason) for d, g in grades.items()]
        request = pb.RecordLabelsRequest(taste=taste, labels=labels, request_id=request_id or str(uuid.uuid4()))
        return self.call("RecordLabels", request)

    def fit(self, taste: str, **fields) -> pb.RaterVersion:
        """Fits and returns the version."""
        request = pb.FitRaterRequest(taste=taste, request_id=str(uuid.uuid4()), **fields)
        return self.stream("FitRater", request)[-1].rater_version


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """The tiny model, made once."""
    folder = tmp_path_factory.mktemp("models")
    make_embedder(folder / "starter" / "embedder")
    return folder


@pytest.fixture
def home(tmp_path: Path, models: Path, request: pytest.FixtureRequest, kept_in: Rows) -> Path:
    """A home with the tiny model as its starter, or a copy of the kept one of the library a test asks for."""
    kept = [name for name in ("kept_fitted", "kept_library") if name in request.fixturenames]
    if "fitted_home" in request.fixturenames:
        kept = ["kept_fitted"]
    if kept:
        shutil.copytree(request.getfixturevalue(kept[0])[0], tmp_path, symlinks=True, dirs_exist_ok=True)
    else:
        (tmp_path / "models").symlink_to(models)
    kept_in.move(tmp_path, SCHEMA)
    return tmp_path


@contextmanager
def serving(home: Path) -> Iterator[Rater]:
    """Gives a rater that listens."""
    settings, store = ServerSettings(home=home), ArtifactStore(StoreSettings(home=home))
    with started(home, store, build(settings, store)) as running:
        yield running


@contextmanager
def started(home: Path, store: ArtifactStore, services: Sequence[ServedService]) -> Iterator[Rater]:
    """Gives services of a rater on a socket, and ends them."""
    torch.set_num_threads(1)
    running = start("rater", services, ServerSettings(home=home), store)
    rater = connected(home, store, running.address)
    try:
        yield rater
    finally:
        rater.channel.close()
        assert running.stop(2.0)


def connected(home: Path, store: ArtifactStore, address: str) -> Rater:
    """Returns what a test needs of a rater that listens at an address, as its owner."""
    token = (home / "tokens" / "owner.token").read_text().strip()
    channel = grpc.insecure_channel(address)
    stub = rater_pb2_grpc.RaterServiceStub(grpc.intercept_channel(channel, _Token(token)))
    return Rater(stub, store, home, address, token, channel)


@pytest.fixture
def rater(home: Path) -> Iterator[Rater]:
    """A rater that listens."""
    with serving(home) as running:
        yield running


class _Token(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def __init__(self, token: str) -> None:
        self._token = token

    def _call(self, continuation, details, request):
        with_token = details._replace(metadata=[("authorization", f"Bearer {self._token}")])
        return continuation(with_token, request)

    intercept_unary_unary = intercept_unary_stream = _call
    intercept_stream_unary = intercept_stream_stream = _call


@dataclass
class Library:
    """A taste with images of several colours, some of them graded."""

    taste: str
    digests: list[str]
    utility: dict[str, float]


@pytest.fixture(scope="session")
def kept_library(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Library]:
    """A home with 120 images, nobody's to change; embedding them for every test took longer than the tests."""
    home = tmp_path_factory.mktemp("kept") / "home"
    home.mkdir()
    (home / "models").symlink_to(models)
    with plain_settings(), serving(home) as rater:
        return home, filled(rater)


@pytest.fixture(scope="session")
def kept_fitted(kept_library: tuple[Path, Library], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Library]:
    """That home with 40 grades and a fit, nobody's to change."""
    home, library = tmp_path_factory.mktemp("kept") / "home", kept_library[1]
    shutil.copytree(kept_library[0], home, symlinks=True)
    with plain_settings(), serving(home) as rater:
        rater.label(library.taste, grades_of(library, library.digests[:40]))
        rater.fit(library.taste)
    return home, library


@contextmanager
def plain_settings() -> Iterator[None]:
    """Leaves no setting of konomi in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("KONOMI_")]:
            patch.delenv(name)
        yield


def filled(rater: Rater) -> Library:
    """Adds the images of a library."""
    taste = rater.taste()
    rng = np.random.default_rng(7)
    utility, images = {}, []
    for i in range(120):
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        digest = rater.put(png(colour, seed=i))
        utility[digest] = colour[0] / 255 - 0.5 * colour[1] / 255
        images.append(
            pb.Image(
                digest=digest,
                source=pb.SOURCE_SELF,
                prompt=f"portrait {i % 11}",
                seed=i,
                unit="base" if i < 90 else "unit-1",
            )
        )
    assert not any(answer.HasField("error") for answer in rater.add(taste, images))
    return Library(taste, [image.digest for image in images], utility)


def grades_of(library: Library, digests: list[str]) -> dict[str, int]:
    """What the owner says: tiers at the 30/60/82/94 % quantiles."""
    cuts = np.quantile(list(library.utility.values()), [0.3, 0.6, 0.82, 0.94])
    return {digest: 1 + int(np.searchsorted(cuts, library.utility[digest])) for digest in digests}


@pytest.fixture
def library(rater: Rater, kept_library: tuple[Path, Library]) -> Library:
    """120 images of a base model; the owner likes red."""
    return copy.deepcopy(kept_library[1])


@pytest.fixture
def fitted(library: Library, kept_fitted: tuple[Path, Library]) -> Library:
    """The library with 40 grades and an active rater version."""
    return library


@pytest.fixture
def fitted_home(kept_fitted: tuple[Path, Library], home: Path) -> Library:
    """The same, of a home whose rater does not run yet."""
    return copy.deepcopy(kept_fitted[1])
