"""Servers of buckets, started once for all tests that ask for them, and a store on each kind of place."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from tests.chassis.storage.s3_servers import KEY, SECRET, S3Place, moto_server, rclone_server


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the credentials of the servers as every AWS tool takes them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Place]:
    with moto_server() as place:
        yield place


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Place]:
    with rclone_server(tmp_path_factory.mktemp("rclone")) as place:
        yield place


@pytest.fixture(params=["moto", "rclone"])
def place(request: pytest.FixtureRequest, credentials: None) -> S3Place:
    """A new bucket on each server."""
    return request.getfixturevalue(request.param).fresh()


@pytest.fixture(params=["folder", "memory", "moto", "rclone"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A store on every kind of place."""
    if request.param in ("moto", "rclone"):
        request.getfixturevalue("credentials")
        place = request.getfixturevalue(request.param).fresh()
        return ArtifactStore(StoreSettings(home=tmp_path, **place.settings()))
    url = "" if request.param == "folder" else f"memory://{uuid.uuid4()}"
    return ArtifactStore(StoreSettings(home=tmp_path, url=url, min_free_bytes=0))
