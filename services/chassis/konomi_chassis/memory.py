"""Tells the C library to keep freed memory: tensors come and go at the same sizes, and giving them back costs time."""

import ctypes
import os

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """Raises glibc's mmap and trim thresholds to 1 GiB and lets idle OpenMP threads sleep; call it before torch.

    Without it the kernel maps, zeroes and unmaps every large tensor anew (12-18 % of the time on the starter).

    Returns:
        True where the C library is glibc and took the settings; elsewhere nothing changes.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE)) and bool(mallopt(M_TRIM_THRESHOLD, LARGE))
