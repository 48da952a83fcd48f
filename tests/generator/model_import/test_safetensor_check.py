"""Two hundred hostile files and none is read: refused by parsing, with a reason, whatever their name says."""

import gzip
import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from konomi.errors import FailedPrecondition
from konomi_chassis.models import safetensors_check
from konomi_chassis.models.safetensors_check import check_bytes, check_file


class Canary:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def good() -> bytes:
    return save({"b": np.ones((2, 3), np.float32), "a": np.zeros(4, np.float16)}, {"format": "pt"})


def packed(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4), **more: object) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def archives(canary: Path) -> dict[str, bytes]:
    payload = pickle.dumps(Canary(canary))
    found = {f"pickle {p}": pickle.dumps(Canary(canary), p) for p in range(6)}
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("archive/data.pkl", payload)
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as file:
        info = tarfile.TarInfo("data.pkl")
        info.size = len(payload)
        file.addfile(info, io.BytesIO(payload))
    found |= {"zip": zipped.getvalue(), "tar": tarred.getvalue(), "gzip": gzip.compress(payload)}
    found |= {"7z": b"7z\xbc\xaf\x27\x1c" + payload, "nested": gzip.compress(zipped.getvalue())}
    found |= {"elf": b"\x7fELF" + bytes(100), "script": b"#!/bin/sh\ntouch x\n" * 9, "empty": b"", "short": b"\0" * 7}
    return found


HEADERS = {
    "bloated": struct.pack("<Q", 9_000_000) + b"{}" + b" " * 8_999_998,
    "longer than the file": struct.pack("<Q", 5_000) + b"{}",
    "not JSON": packed(b"{nope"),
    "a list": packed([1]),
    "leading space": packed(b' {"a":1}'),
    "not UTF-8": packed(b'{"\xff":1}'),
    "NaN": packed(b'{"a": NaN}'),
    "deep": packed(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "huge number": packed(b'{"a":' + b"9" * 100_000 + b"}"),
    "name twice": packed(b'{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "a": 1}', bytes(4)),
    "too many": packed({f"t{n}": entry(shape=[0], offsets=[0, 0]) for n in range(20_001)}),
    "metadata no text": packed({"__metadata__": {"a": 1}}),
    "metadata a list": packed({"__metadata__": []}),
    "odd dtype": packed({"a": entry("OBJECT")}, bytes(4)),
    "dtype a list": packed({"a": entry(["F32"])}, bytes(4)),
    "negative shape": packed({"a": entry(shape=[-1])}, bytes(4)),
    "true shape": packed({"a": entry(shape=[True])}, bytes(4)),
    "float shape": packed({"a": entry(shape=[1.0])}, bytes(4)),
    "huge shape": packed({"a": entry(shape=[1 << 60])}, bytes(4)),
    "overflowing shape": packed({"a": entry(shape=[1 << 40, 1 << 40])}, bytes(4)),
    "rank": packed({"a": entry(shape=[1] * 9)}, bytes(4)),
    "shape text": packed({"a": entry(shape="1")}, bytes(4)),
    "offsets backwards": packed({"a": entry(offsets=[4, 0])}, bytes(4)),
    "offsets three": packed({"a": entry(offsets=[0, 4, 8])}, bytes(4)),
    "offsets beyond": packed({"a": entry(shape=[2], offsets=[0, 8])}, bytes(4)),
    "gap": packed({"a": entry(offsets=[4, 8])}, bytes(8)),
    "overlap": packed({"a": entry(), "b": entry()}, bytes(4)),
    "rest": packed({"a": entry()}, bytes(5)),
    "polyglot": packed({"a": entry()}, bytes(4)) + b"PK\x05\x06" + bytes(18),
    "wrong size": packed({"a": entry(shape=[3], offsets=[0, 4])}, bytes(4)),
    "more keys": packed({"a": entry(extra=1)}, bytes(4)),
    "no dtype": packed({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "control in name": packed({"a\n": entry()}, bytes(4)),
    "long name": packed({"a" * 513: entry()}, bytes(4)),
    "empty name": packed({"": entry()}, bytes(4)),
    "entry a number": packed({"a": 4}, bytes(4)),
}


def refused(data: bytes) -> str:
    with pytest.raises(FailedPrecondition) as caught:
        check_bytes(data)
    assert caught.value.reason == "UNSAFE_FORMAT"
    return caught.value.message


def test_a_good_file_is_described(tmp_path: Path) -> None:
    (tmp_path / "any.name").write_bytes(good())
    for header in (check_bytes(good()), check_file(tmp_path / "any.name")):
        assert header.metadata == {"format": "pt"}
        assert {name: (t.dtype, t.shape, t.parameters) for name, t in header.tensors.items()} == {
            "b": ("F32", (2, 3), 6),
            "a": ("F16", (4,), 4),
        }
        entry_b = header.tensors["b"]
        raw = good()[header.data_start + entry_b.start : header.data_start + entry_b.end]
        assert np.array_equal(np.frombuffer(raw, np.float32), np.ones(6))


@pytest.mark.parametrize("what", HEADERS)
def test_hostile_headers_are_refused(what: str) -> None:
    assert refused(HEADERS[what])


def test_archives_pickles_and_programs_are_refused_and_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for what, data in archives(canary).items():
        (tmp_path / "model.safetensors").write_bytes(data)
        with pytest.raises(FailedPrecondition) as caught:
            check_file(tmp_path / "model.safetensors")
        assert caught.value.reason == "UNSAFE_FORMAT", what
    assert not canary.exists()
    assert "pickle" in refused(pickle.dumps([1]))


def test_a_header_of_a_length_that_looks_like_a_pickle_is_still_read() -> None:
    header = {"a": entry(), "__metadata__": {"pad": ""}}
    raw = json.dumps(header).encode()
    header["__metadata__"]["pad"] = " " * (0x180 - len(raw))
    data = packed(header, bytes(4))
    assert data[0] == 0x80
    assert list(check_bytes(data).tensors) == ["a"]


def test_damaged_files_are_refused_or_harmless() -> None:
    rng, data = random.Random(0), good()
    accepted = 0
    for _ in range(300):
        damaged = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data)
        for _ in range(rng.randrange(1, 4)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            header = check_bytes(bytes(damaged))
        except FailedPrecondition as error:
            assert error.reason == "UNSAFE_FORMAT"
            continue
        accepted += 1
        assert max(t.end for t in header.tensors.values()) + header.data_start == len(damaged)
    assert accepted < 200


def test_the_limits_are_those_promised() -> None:
    assert safetensors_check.MAX_HEADER_BYTES == 8_000_000 and safetensors_check.MAX_TENSORS == 20_000
