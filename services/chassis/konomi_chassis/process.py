"""What a process is told once: to end with its parent, to keep freed memory, to answer while libraries load."""

import atexit
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from konomi.errors import FailedPrecondition

VARIABLE = "KONOMI_PARENT_PID"
PR_SET_PDEATHSIG = 1
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DIFFUSERS_DISABLE_CUSTOM_CODE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment of a process that loads models of the home and asks no hub for anything, nor tells one."""


def die_with_parent(environment: Mapping[str, str]) -> None:
    """Asks the kernel to kill this process with its parent, where KONOMI_PARENT_PID names the parent.

    Raises:
        FailedPrecondition: the parent is gone already.
    """
    parent = environment.get(VARIABLE)
    if not parent:
        return
    _check_parent(parent)
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    _check_parent(parent)  # it may have gone between the two lines above


def _check_parent(parent: str) -> None:
    if str(os.getppid()) != parent:
        raise FailedPrecondition(f"The parent process {parent} is gone, so this one ends too.", reason="PARENT_GONE")


ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def expand_segments(environment: MutableMapping[str, str]) -> None:
    """Lets torch grow its blocks of GPU memory, unless the owner said otherwise; call it before torch.

    Images and buckets come in many shapes; without it each leaves blocks behind that fit no other.
    """
    if not any(name in environment for name in ALLOCATOR_VARIABLES):
        environment[ALLOCATOR_VARIABLES[0]] = "expandable_segments:True"


M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """Raises glibc's mmap and trim thresholds to 1 GiB, lets idle OpenMP threads sleep, expands GPU memory in place.

    Call it before torch is imported.

    Without it the kernel maps, zeroes and unmaps every large tensor anew (12-18 % of the time on the starter).

    Returns:
        True where the C library is glibc and took the settings; elsewhere nothing changes.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    expand_segments(os.environ)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(M_TRIM_THRESHOLD, LARGE))


def usable_cores() -> int:
    """Returns how many cores this process may use; all of the machine's where the system, as macOS, does not say."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


SWITCH_SECONDS = 0.001


def switch_threads_often() -> None:
    """Lets a thread that waits for the interpreter have it after 1 ms instead of 5.

    The one thread that takes calls in waits that long at every call while another thread computes: with 5,000 refusals
    under way a label came through five times sooner, and at rest nothing is slower.
    """
    sys.setswitchinterval(SWITCH_SECONDS)


@contextmanager
def loading() -> Iterator[None]:
    """Keeps the garbage collector from running while libraries load beside calls, and what they made out of its sight.

    A full collection holds the interpreter for as long as it walks half a million objects, .2 s and more on a busy
    machine, and happens several times while torch and timm are imported. What an import leaves is kept anyhow: cycles
    among it are about one object in a hundred.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # extensions that count what they left behind would name all of it at the end


TORCH_LIBRARIES = (("libtorch_global_deps.so", os.RTLD_GLOBAL), ("libtorch.so", os.RTLD_LOCAL))
"""Shared libraries of torch, each with what it stands on, and who sees its symbols: as torch itself opens them."""


def map_torch() -> int:
    """Maps torch's shared libraries into the process before Python imports torch; returns how many are mapped.

    Python opens an extension with the interpreter held, and linking a gigabyte of torch takes .4 s, a second and more
    on a busy machine, in which no call is answered. A foreign call to `dlopen` holds nothing, and the import after it
    finds the libraries there. Where they have other names or cannot be opened, the import does as it always did.
    """
    found = find_spec("torch")
    if found is None or found.origin is None or "torch" in sys.modules:
        return 0
    try:
        dlopen = ctypes.CDLL(None).dlopen
    except (OSError, AttributeError, TypeError):
        return 0
    dlopen.restype, dlopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
    folder = Path(found.origin).parent / "lib"
    here = [(folder / name, who) for name, who in TORCH_LIBRARIES if (folder / name).is_file()]
    return sum(dlopen(os.fsencode(path), os.RTLD_NOW | who) is not None for path, who in here)
