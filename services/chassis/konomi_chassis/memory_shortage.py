"""Memory that ran out, on any device: what it looks like, what a caller hears of it, and what a broken device is.

Errors are told by their class and words, so that a service without torch need not import it; where somebody has
imported it, free memory is asked of the GPU.
"""

import errno
import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from konomi.errors import KonomiError, ResourceExhausted

SHORTAGE_CLASSES = frozenset({"torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError", "builtins.MemoryError"})
SHORTAGE_WORDS = re.compile(
    r"out of memory|not enough memory|can(?:no|')t allocate memory|failed to allocate memory|cudaErrorMemoryAllocation"
    r"|(?:CUBLAS|CUDNN|CUSOLVER|CUSPARSE|HIPBLAS|ROCBLAS|MIOPEN)_?STATUS_(?:ALLOC_FAILED|NOT_SUPPORTED)"
    r"|CUDNN_STATUS_INTERNAL_ERROR_(?:HOST|DEVICE)_ALLOCATION_FAILED|CUFFT_ALLOC_FAILED|bad_alloc"
    r"|unable to mmap \d+ bytes|NCCL.{0,200}Cuda failure 2\b",
    re.IGNORECASE | re.DOTALL,
)
"""What torch's CPU allocator, CUDA, cuBLAS, cuDNN and NCCL say; NOT_SUPPORTED is how cuDNN says that no plan fits."""
BROKEN_WORDS = re.compile(
    r"illegal memory access|misaligned address|device-side assert|unspecified launch failure|uncorrectable ECC"
    r"|illegal instruction|invalid program counter|device (?:was )?lost|GPU is lost|launch timed out",
    re.IGNORECASE,
)
"""CUDA errors after which every later call of the process fails."""
ASKED = re.compile(r"tried to allocate ([\d.]+) ?(bytes|KiB|MiB|GiB|TiB)?", re.IGNORECASE)
UNITS = {"bytes": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
DEEPEST = 8
"""Errors looked at, each the cause of the one before."""


def is_shortage(error: BaseException) -> bool:
    """Says whether an error means that memory ran out; libraries that wrap it in another are seen through."""
    return not isinstance(error, KonomiError) and any(_is_shortage(inner) for inner in _chain(error))


def is_broken_device(error: BaseException) -> bool:
    """Says whether an error means that the device failed for good: every later call of this process fails too."""
    if isinstance(error, KonomiError) or is_shortage(error):
        return False
    return any(
        _names(inner) & {"torch.AcceleratorError"} or (_may_tell(inner) and BROKEN_WORDS.search(str(inner)))
        for inner in _chain(error)
    )


def bytes_asked(error: BaseException) -> int:
    """Returns how many bytes an allocation that failed had asked for; 0 where the error does not say."""
    for inner in _chain(error):
        if match := ASKED.search(str(inner)):
            return int(float(match[1]) * UNITS[(match[2] or "bytes").lower()])
    return 0


def free_memory() -> tuple[str, int, int]:
    """Returns where work runs out of memory first, "GPU" or "computer", and its free and whole memory in bytes."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        try:
            free, whole = torch.cuda.mem_get_info()
            return "GPU", int(free), int(whole)
        except RuntimeError:
            pass  # a device in trouble does not even say this
    return "computer", *host_memory()


def shortage(
    error: BaseException, doing: str, advice: str, *, reason: str = "OUT_OF_MEMORY", retry_after: float = 10.0
) -> ResourceExhausted:
    """Returns the error for memory that ran out.

    Args:
        error: what was raised, for the number of bytes in it.
        doing: what was being done, as in "while loading sdxl".
        advice: what to do, a clause without its full stop.
        reason: the stable name.
        retry_after: seconds.
    """
    return ResourceExhausted(
        f"Memory ran out {doing}: {numbers_text(bytes_asked(error))}. {advice[:1].upper()}{advice[1:]}.",
        reason=reason,
        retry_after=retry_after,
    )


def numbers_text(asked: int) -> str:
    """Returns what was asked for, 0 where nobody knows, and what is free now: "1.91 GiB more were asked for and …"."""
    where, free, whole = free_memory()
    wanted = f"{size_text(asked)} more were asked for and " if asked else ""
    return f"{wanted}{size_text(free)} of the {where}'s {size_text(whole)} are free"


def give_back() -> None:
    """Gives memory that nothing uses any more back: cycles are collected, what torch reserved goes to the device."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def size_text(size: int) -> str:
    """Returns a number of bytes in words: "1.91 GiB", "512 MiB"."""
    if size >= 1 << 30:
        return f"{size / (1 << 30):.2f} GiB"
    return f"{size / (1 << 20):.0f} MiB" if size >= 1 << 20 else f"{size} bytes"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and what it was raised from."""
    inner: BaseException | None = error
    for _ in range(DEEPEST):
        if inner is None or isinstance(inner, KonomiError):
            return
        yield inner
        inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)


def _is_shortage(error: BaseException) -> bool:
    if _names(error) & SHORTAGE_CLASSES or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return _may_tell(error) and SHORTAGE_WORDS.search(str(error)) is not None


def _may_tell(error: BaseException) -> bool:
    """Says whether a library speaks of memory by this class; the text of others may be a caller's."""
    return isinstance(error, RuntimeError) or "safetensors._safetensors_rust.SafetensorError" in _names(error)


def _names(error: BaseException) -> set[str]:
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}


def host_memory() -> tuple[int, int]:
    """Returns free and whole memory of the computer in bytes; zeros where it does not say."""
    numbers = {"MemAvailable": 0, "MemTotal": 0}
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return 0, 0
    for line in lines:
        name, _, rest = line.partition(":")
        if name in numbers:
            numbers[name] = int(rest.split()[0]) << 10
    return numbers["MemAvailable"], numbers["MemTotal"]
