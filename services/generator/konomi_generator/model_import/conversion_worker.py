"""The disposable child that turns a pickled checkpoint into safetensors within hard limits.

`python -m konomi_generator.model_import.conversion_worker LENGTH < model.ckpt > model.safetensors`: gives up network,
files, programs and privileges, scans the pickle, loads tensors and nothing else (weights_only), and writes them. What
it will not read it says as one line of JSON on stderr. The only file that touches a pickle; no service imports it.
"""

import ctypes
import io
import json
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import picklescan.scanner
import torch

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
CLONE_NEWNET = 0x40000000
NOBODY = 65534
GIB = 1 << 30
CPU_SECONDS = 1800
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


FORBIDDEN = {
    "x86_64": (
        0xC000003E,
        _numbers(
            "2 41 42 49 53 56 57 58 59 62 76 77 82 83 84 85 86 87 88 90 92 101 165 200 234 257 263 264 265 "
            "266 311 316 321 322 424 425 434 435 437"
        ),
    ),
    "aarch64": (
        0xC00000B7,
        _numbers(
            "33 34 35 36 37 38 40 45 46 56 117 129 130 131 198 199 200 203 220 221 271 276 280 281 424 425 434 435 437"
        ),
    ),
}
"""Per machine its audit name and the calls that open files, start programs or processes, talk, or change files."""


class ConversionRefused(Exception):
    """The file is not what may be converted."""


def drop_privileges(memory_bytes: int) -> None:
    """Takes from this process all that reading tensors does not need: network, files, programs, privileges."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "unshare"):
        libc.unshare(CLONE_NEWNET)  # where it may: a network without any device
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() == 0:
        with suppress(OSError):  # a container may know no such user
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),  # stdin, stdout, stderr
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (most, most))
    _filter_calls(libc)


def _filter_calls(libc: Any) -> None:
    """Lets the kernel answer EPERM to every call in FORBIDDEN, where it can."""
    audit, calls = FORBIDDEN.get(platform.machine(), (0, ()))
    if not calls or not hasattr(libc, "prctl"):
        return
    allow, deny, kill = 0x7FFF0000, 0x00050000 | 1, 0x80000000
    # load the audit name, compare, kill; load the call's number; deny those of the x32 table and those forbidden
    program = [(0x20, 0, 0, 4), (0x15, 1, 0, audit), (0x06, 0, 0, kill), (0x20, 0, 0, 0)]
    program.append((0x35, len(calls) + 1, 0, 0x40000000))
    for place, number in enumerate(calls):
        program.append((0x15, len(calls) - place, 0, number))
    program += [(0x06, 0, 0, allow), (0x06, 0, 0, deny)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)


def warm_up() -> None:
    """Makes the libraries open the files they open at first use, while they still may."""
    for zipped in (True, False):
        buffer = io.BytesIO()
        sample = {"state_dict": {"a": torch.zeros(1, dtype=torch.float16)}}
        torch.save(sample, buffer, _use_new_zipfile_serialization=zipped)
        picklescan.scanner.scan_bytes(io.BytesIO(buffer.getvalue()), "warm-up.ckpt", ".ckpt")
        buffer.seek(0)
        torch.load(buffer, map_location="cpu", weights_only=True)


def tensors_of(file: BinaryIO) -> dict[str, torch.Tensor]:
    """Returns the tensors of a checkpoint by name.

    Raises:
        Refused: the pickle names what no weights need, holds anything but plain data, or no tensors.
    """
    scan = picklescan.scanner.scan_bytes(file, "model.ckpt", ".ckpt")
    bad = sorted(f"{g.module}.{g.name}" for g in scan.globals if g.safety == picklescan.scanner.SafetyLevel.Dangerous)
    if bad or scan.issues_count or scan.infected_files:
        raise ConversionRefused(f"its pickle asks for {', '.join(bad)[:160] or 'what no weights need'}")
    file.seek(0)
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
    tensors = {
        str(name): tensor
        for name, tensor in (state.items() if isinstance(state, Mapping) else ())
        if isinstance(tensor, torch.Tensor) and tensor.dtype in DTYPES and tensor.layout is torch.strided
    }
    if not tensors:
        raise ConversionRefused("it holds no tensors")
    return tensors


def safetensors(tensors: Mapping[str, torch.Tensor]) -> Iterator[bytes]:
    """Yields the bytes of a safetensors file, tensor by tensor, so that no second whole copy is ever held."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + size],
        }
        position += size
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    yield struct.pack("<Q", len(raw)) + raw
    for name in sorted(tensors):
        flat = tensors[name].detach().contiguous().reshape(-1)
        if flat.numel():
            yield flat.view(torch.uint8).numpy().tobytes()


def main(length: int) -> int:
    """Converts stdin to stdout; returns the exit code."""
    torch.set_num_threads(1)
    warm_up()
    source, out = io.BufferedReader(io.FileIO(0, closefd=False)), sys.stdout.buffer
    with open("/proc/self/statm") as statm:  # pages in use by the libraries
        own = int(statm.read().split()[0]) * resource.getpagesize()
    drop_privileges(own + 4 * length + GIB)
    try:
        for part in safetensors(tensors_of(source)):
            out.write(part)
        out.flush()
    except Exception as error:  # noqa: BLE001  whatever a loader raises on hostile bytes, the answer is the same
        reason = str(error) if isinstance(error, ConversionRefused) else type(error).__name__
        sys.stderr.write(json.dumps({"refused": reason}) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
