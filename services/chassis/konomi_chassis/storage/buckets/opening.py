"""From the URL of the settings to the bucket it means, or the words that say why it cannot be opened."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.registry import known_implementations

from konomi.errors import FailedPrecondition
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.buckets.bucket import Bucket, Objects
from konomi_chassis.storage.buckets.node_cache import NodeCache
from konomi_chassis.storage.buckets.other_objects import OtherObjects

S3 = ("s3", "s3a")


def open_bucket(settings: StoreSettings) -> Bucket | Path:
    """Returns the bucket of a URL, or the folder where it means one of this machine.

    Raises:
        FailedPrecondition: its package is not installed, it holds credentials or is no URL of a store, or the server
            refuses the credentials, the bucket or the rights.
        Unavailable: the server cannot be reached.
    """
    parts = urlsplit(settings.url)
    if parts.scheme in S3:
        objects, root = _s3(settings)
    else:
        system, root = _system(settings.url)
        if "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)):
            return Path(root)
        objects = OtherObjects(system)
    objects.check(root)
    folder = settings.home.absolute() / "cache" / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    remote = parts.scheme in S3 and settings.node_cache_bytes > 0
    return Bucket(objects, root, NodeCache(folder, settings.node_cache_bytes) if remote else None, folder)


def _s3(settings: StoreSettings) -> tuple[Objects, str]:
    parts = urlsplit(settings.url)
    if parts.username or parts.password:
        raise FailedPrecondition(
            "[store] url holds credentials, and settings are shown and copied. Take them out, and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead.",
            reason="STORE_URL",
        )
    root = f"{parts.netloc}{parts.path}".rstrip("/")
    if not parts.netloc or parts.query or parts.fragment:
        raise FailedPrecondition(
            'A [store] url such as "s3://bucket/folder" was expected; one without a bucket, or with "?" or "#", came.',
            reason="STORE_URL",
        )
    if any(find_spec(module) is None for module in ("s3fs", "stamina")):
        raise _missing("s3", "run: pip install 'konomi[s3]'")
    from konomi_chassis.storage.buckets.s3_objects import S3Objects, S3Server

    server = S3Server(settings.endpoint, settings.region, settings.timeout_seconds, settings.retry_seconds)
    return S3Objects(server), root


def _system(url: str) -> tuple[Any, str]:
    """Returns the file system of a URL and the path in it."""
    scheme = urlsplit(url).scheme
    try:
        system, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        says = known_implementations.get(scheme, {}).get("err", str(error))
        raise _missing(scheme, says) from error
    except ValueError as error:
        raise FailedPrecondition(
            f'A [store] url such as "s3://bucket/folder" or "file:///data/artifacts" was expected; one of the kind '
            f'"{scheme[:20]}" came, which nobody here knows.',
            reason="STORE_URL",
        ) from error
    return system, str(root)


def _missing(scheme: str, what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"[store] url begins with {scheme}://, and what speaks to such a store is not installed; {what}",
        reason="MISSING_EXTRA",
    )
