"""The disposable child that turns one packaged PyTorch file into safetensors within hard limits; never imported.

Reads the whole file from stdin, whose sha256 its parent has checked; writes the safetensors bytes to stdout. It has no
file, no socket and no user of its own while it unpickles, and it ends with its one answer.
"""

import ctypes
import io
import os
import resource
import sys
from contextlib import suppress

import torch
import torch.utils.serialization.config  # torch.load imports it late, when no file can be opened any more
from safetensors.torch import save

PR_SET_NO_NEW_PRIVS = 38
NOBODY = 65534
MORE_MEMORY = 1 << 30
CPU_SECONDS = 60


def drop_privileges() -> None:
    """Takes from this process what a conversion does not need: root, files, sockets, children, memory, time."""
    with open("/proc/self/statm", "rb") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() == 0:
        with suppress(OSError):  # a container may know no such user
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    resource.setrlimit(resource.RLIMIT_AS, (held + MORE_MEMORY, held + MORE_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


def main() -> None:
    """Answers once."""
    torch.set_num_threads(1)
    save({"rehearsal": torch.zeros(1)})  # what this imports late must be there before files are shut
    data = sys.stdin.buffer.read()
    drop_privileges()
    tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    plain = {str(name): value.detach().contiguous() for name, value in tensors.items()}
    sys.stdout.buffer.write(save(plain))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
