"""Memory of the device that trains: given back, and put into numbers where it runs out.

Only the end of a process gives back the context of a GPU as well; see jobs/own_process.
"""

import os
import sys

import torch

from konomi_chassis.memory_shortage import give_back

GIB = float(1 << 30)


def release() -> None:
    """Frees everything a run has left: blocks that were compiled for it, and what `give_back` frees."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    give_back()


def figures(device: torch.device) -> str:
    """Returns how much memory a device has, in one clause, for a sentence that says what does not fit.

    Args:
        device: where the weights lie that are trained.
    """
    if device.type != "cuda":
        page = os.sysconf("SC_PAGE_SIZE")
        free, total = os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
        return f"{free / GIB:.1f} of {total / GIB:.1f} GiB of this machine are free"
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.memory_allocated(device)
    return f"{free / GIB:.1f} of {total / GIB:.1f} GiB of {device} are free, {own / GIB:.1f} are the run's own"
