"""Whether an error is one of memory, what is said of it, and what ends a server whose device is broken."""

import errno

import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc

from konomi.errors import FailedPrecondition, ResourceExhausted, Unavailable
from konomi.v1 import rater_pb2, rater_pb2_grpc
from konomi_chassis.memory_shortage import bytes_asked, is_broken_device, is_shortage, numbers_text, shortage

SHORTAGES = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 7.79 GiB"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous"),
    RuntimeError("CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 40960 bytes."),
    RuntimeError("NCCL error in: NCCLUtils.cpp:76, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB)"),
    RuntimeError("unable to mmap 6938040682 bytes from file <model.safetensors>: Cannot allocate memory (12)"),
]
OTHERS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ValueError("a prompt about running out of memory"),
    OSError(errno.ENOENT, "no such file"),
    FailedPrecondition("out of memory", reason="OTHER"),
]
BROKEN = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: unspecified launch failure"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: str(error)[:40])
def test_every_library_s_words_for_a_shortage_are_known(error: BaseException) -> None:
    assert is_shortage(error) and not is_broken_device(error)


@pytest.mark.parametrize("error", [*OTHERS, *BROKEN], ids=lambda error: str(error)[:40])
def test_nothing_else_is_taken_for_one(error: BaseException) -> None:
    assert not is_shortage(error)
    assert is_broken_device(error) == (error in BROKEN)


def test_what_torch_really_raises_is_one_with_its_number() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 52, dtype=torch.uint8)
    assert is_shortage(caught.value) and bytes_asked(caught.value) == 1 << 52


def test_a_library_that_wraps_it_is_seen_through() -> None:
    try:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        except RuntimeError as inner:
            raise OSError("Unable to load weights from checkpoint file") from inner
    except OSError as error:
        assert is_shortage(error) and bytes_asked(error) == 20 << 20


def test_the_sentence_has_numbers_and_advice() -> None:
    told = shortage(SHORTAGES[2], "while loading sdxl", "choose a smaller base model")
    assert isinstance(told, ResourceExhausted) and (told.reason, told.retry_after) == ("OUT_OF_MEMORY", 10.0)
    assert told.message.startswith("Memory ran out while loading sdxl: 1.50 GiB more were asked for and ")
    assert told.message.endswith("are free. Choose a smaller base model.")
    assert numbers_text(0).count("iB") == 2 and "asked for" not in numbers_text(0)


class _Rater(rater_pb2_grpc.RaterServiceServicer):
    """Fails as its taste's name says."""

    def GetTaste(self, request, context):
        raise BROKEN[0] if request.name == "tastes/broken" else SHORTAGES[2]


def _get(caller, name: str) -> None:
    caller.call("/konomi.v1.RaterService/GetTaste", rater_pb2.GetTasteRequest(name=f"tastes/{name}"))


def test_a_call_that_runs_out_of_memory_is_told_so_and_the_next_is_served(serve, owner) -> None:
    caller = owner(serve(_Rater()))
    for _ in range(2):
        with pytest.raises(ResourceExhausted) as caught:
            _get(caller, "short")
        assert caught.value.reason == "OUT_OF_MEMORY" and "1.50 GiB more were asked for" in caught.value.message


def test_a_broken_device_ends_the_server(serve, owner) -> None:
    running = serve(_Rater())
    caller = owner(running)
    with pytest.raises(Unavailable) as caught:
        _get(caller, "broken")
    assert caught.value.reason == "DEVICE_FAILED" and "start it again" in caught.value.message
    assert running.device_failed and running.ended.is_set()
    with pytest.raises(Unavailable) as caught:
        _get(caller, "short")
    assert caught.value.reason == "ENDING"
    health = health_pb2_grpc.HealthStub(caller.channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
