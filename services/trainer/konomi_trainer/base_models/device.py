"""The device a run trains on, and what it can: its number formats, its memory, how many of its kind there are.

What only a CUDA context tells is asked in a process of its own, `python -m konomi_trainer.base_models.device cuda`: a
context takes some hundred MB of the card for as long as the process lives, and the trainer lives on.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache

import torch

from konomi.errors import FailedPrecondition
from konomi_chassis.models.memory_needs import ROOM_BYTES

CPU, CUDA = "cpu", "cuda"
PATIENCE_SECONDS = 120.0
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Abilities:
    """What a device can: whether it computes in bfloat16, and its memory in bytes."""

    bf16: bool
    memory: int


def chosen(setting: str) -> str:
    """Returns the device of a setting: "cpu", "cuda" or "cuda:1"; "auto" takes a GPU where there is one.

    Raises:
        FailedPrecondition: it names a GPU that is not there.
    """
    if setting == CPU:
        return CPU
    if setting == "auto":
        return CUDA if torch.cuda.is_available() else CPU
    count = len(gpus())
    if number(setting) >= count:
        raise FailedPrecondition(
            f"expected a device this machine has; {setting} came and it has {count or 'no'} GPU{'s' * (count != 1)}: "
            'set [trainer] device to "auto" or to one that is there',
            reason="DEVICE_MISSING",
        )
    return setting


def number(device: str) -> int:
    """Returns the number of a GPU among those that are visible: 1 of "cuda:1", 0 of "cuda"."""
    return int(device.partition(":")[2] or 0)


def gpus() -> list[str]:
    """Returns the names by which this process sees its GPUs, as CUDA_VISIBLE_DEVICES lists them; makes no context."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    listed = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return (listed or [str(index) for index in range(count)])[:count]


def check_processes(processes: int, device: str) -> None:
    """Refuses more processes than there are GPUs for them, counted from the device on.

    Raises:
        FailedPrecondition: two of them would share a GPU, which NCCL refuses in the middle of a run.
    """
    if device == CPU:
        return
    left = len(gpus()) - number(device)
    if processes > left:
        raise FailedPrecondition(
            f"expected at most {left} processes for a run, one for each GPU from {device} on; {processes} came: set "
            f"[trainer] processes to {left} or less",
            reason="TOO_MANY_PROCESSES",
        )


@cache
def abilities(device: str) -> Abilities:
    """Returns what a GPU can, asked once in a process of its own.

    Raises:
        FailedPrecondition: the GPU does not answer.
    """
    command = [sys.executable, "-m", "konomi_trainer.base_models.device", device]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=PATIENCE_SECONDS, check=True)
        return Abilities(**json.loads(done.stdout))
    except (subprocess.SubprocessError, OSError, ValueError, TypeError) as error:
        raise FailedPrecondition(
            f"expected the GPU {device} to say what it can; it did not ({type(error).__name__}): its last words are in "
            'the trainer\'s log. Look at the driver, or set [trainer] device = "cpu"',
            reason="DEVICE_BROKEN",
        ) from error


def precision(device: str) -> str:
    """Returns the number format a device trains in: bf16 where it computes in it, else fp16; fp32 on a CPU."""
    if device == CPU:
        return "fp32"
    return "bf16" if abilities(device).bf16 else "fp16"


def memory(device: str) -> int:
    """Returns the bytes of memory of a GPU of this process."""
    return int(torch.cuda.get_device_properties(device).total_memory)


def has_room(device: str) -> bool:
    """Says whether the device of this process holds an SDXL step without making activations twice; a CPU does."""
    return device == CPU or memory(device) >= ROOM_BYTES


def main() -> int:
    """Prints what the device of the command line can, as JSON; returns the exit code."""
    device = sys.argv[1]
    if device == CPU:
        print(json.dumps(asdict(Abilities(True, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))))
        return 0
    with torch.cuda.device(device):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    print(json.dumps(asdict(Abilities(bf16, torch.cuda.get_device_properties(device).total_memory))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
