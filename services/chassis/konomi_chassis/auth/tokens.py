"""The token file of a home: hashes of the bearer tokens in force, whom each stands for and what it may do."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.durable_files import make_folder, sync_folder

Scope = Literal["owner", "labeller", "tool", "service"]
SCOPES: tuple[Scope, ...] = ("owner", "labeller", "tool", "service")
SCHEMA = "konomi.tokens/1"
TASTE_ID = re.compile(r"[a-z0-9-]{1,40}")
OWNERS_NAME = "owner"
"""Under which the owner's labels stand; no other token may have it."""
PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")


@dataclass(frozen=True)
class TokenRecord:
    """One token: sha256 of it, principal, scope, taste id (None: not bound), end of life in seconds since the epoch."""

    sha256: str
    principal: str
    scope: Scope
    taste: str | None = None
    expires: float | None = None


def issue_token(
    home: Path, principal: str, scope: Scope, taste: str | None = None, expires: float | None = None
) -> str:
    """Makes a token, stores its hash and returns the token; it cannot be read again later.

    Args:
        home: the home folder.
        principal: who will hold it, for example "comfyui".
        scope: what it may do: owner, labeller, tool or service.
        taste: taste id it is bound to; required for labeller and tool.
        expires: end of its life, in seconds since the epoch; None for no end.

    Raises:
        InvalidArgument: an unknown scope, a malformed name, a missing taste.
    """
    if scope not in SCOPES:
        raise InvalidArgument(f"A scope is one of {', '.join(SCOPES)}; {scope!r} came.", field="scope")
    if not PRINCIPAL.fullmatch(principal):
        raise InvalidArgument(
            f"A principal has 1 to 64 letters, digits, dots, dashes; {principal!r} came.", field="principal"
        )
    if scope != "owner" and principal.casefold() == OWNERS_NAME:
        raise InvalidArgument(
            f"{principal!r} is the owner's name; choose another for a {scope} token.", field="principal"
        )
    if scope in ("labeller", "tool") and taste is None:
        raise InvalidArgument(f"A {scope} token is for one taste; name it.", field="taste")
    if taste is not None and not TASTE_ID.fullmatch(taste):
        raise InvalidArgument(
            f"A taste id has 1 to 40 lower-case letters, digits and dashes; {taste!r} came.", field="taste"
        )
    if scope == "owner" and taste is not None:
        raise InvalidArgument("An owner token is for every taste; name none.", field="taste")
    token = "konomi_" + secrets.token_urlsafe(32)
    with _locked(home) as records:
        records.append(TokenRecord(hash_token(token), principal, scope, taste, expires))
    return token


def revoke_tokens(home: Path, principal: str) -> int:
    """Removes every token of a principal; running servers notice at the next call. Returns how many there were."""
    with _locked(home) as records:
        kept = [record for record in records if record.principal != principal]
        removed = len(records) - len(kept)
        records[:] = kept
    return removed


def ensure_owner_token(home: Path) -> None:
    """Makes the owner token at first start and leaves it, readable by the owner alone, in `tokens/owner.token`."""
    with _locked(home) as records:
        if not any(record.scope == "owner" for record in records):
            _write_owner(home, records)


def rotate_owner_token(home: Path) -> None:
    """Replaces the local owner token; the old one is refused from the next call on."""
    with _locked(home) as records:
        records[:] = [record for record in records if record.principal != "owner"]
        _write_owner(home, records)


def read_tokens(home: Path) -> tuple[TokenRecord, ...]:
    """Returns the tokens in force. Raises FailedPrecondition when the file is damaged."""
    path = home / "tokens" / "tokens.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']}")
        if content.get("sha256", _digest(content["tokens"])) != _digest(content["tokens"]):
            raise ValueError("another checksum")
        return tuple(TokenRecord(**record) for record in content["tokens"])
    except FileNotFoundError:
        return ()
    except (ValueError, KeyError, TypeError) as error:
        raise FailedPrecondition(
            "The token file tokens/tokens.json of the home is damaged. Restore it, or remove it to start anew; then "
            "issue the tokens of other people and tools again.",
            reason="TOKENS_DAMAGED",
        ) from error


def hash_token(token: str) -> str:
    """Returns the sha256 of a token, in hexadecimal digits."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _digest(tokens: list[dict[str, object]]) -> str:
    """Returns the sha256 of the records; files of an earlier konomi carry none."""
    return hashlib.sha256(json.dumps(tokens, sort_keys=True).encode()).hexdigest()


def _write_owner(home: Path, records: list[TokenRecord]) -> None:
    token = "konomi_" + secrets.token_urlsafe(32)
    records.append(TokenRecord(hash_token(token), "owner", "owner"))
    _write_private(home / "tokens" / "owner.token", token + "\n")


@contextmanager
def _locked(home: Path) -> Iterator[list[TokenRecord]]:
    folder = home / "tokens"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(folder / "lock", fallback_to_soft=False):
        before = read_tokens(home)
        records = list(before)
        yield records
        if tuple(records) != before:
            tokens = [asdict(record) for record in records]
            content = {"schema": SCHEMA, "sha256": _digest(tokens), "tokens": tokens}
            _write_private(folder / "tokens.json", json.dumps(content, indent=1) + "\n")


def _write_private(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    make_folder(path.parent)  # the first token may have made it
    sync_folder(path.parent)
