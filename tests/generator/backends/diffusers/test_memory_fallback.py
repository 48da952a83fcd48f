"""Memory runs out: smaller batches first, then parts wait elsewhere, then tiles where they are allowed, then a word."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from konomi.errors import Cancelled, ResourceExhausted
from konomi_chassis.memory_shortage import is_shortage
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.backends.diffusers.memory_fallback import FallbackLevel
from konomi_generator.sampling import GeneratedImage, ImageRequest, Sampling
from konomi_generator.settings import GeneratorSettings

ROWS = [ImageRequest(n, f"a cat number {n}", 20 + n) for n in range(9)]
SIZES_OF: dict[tuple[str, str], dict] = {}
"""Batch sizes measured once a model, for the tests that do not look at the measuring."""


class Bench:
    """A back end over one model of the home, whose memory a test makes small."""

    def __init__(self, models, settings: GeneratorSettings, id: str = "starter", **changes: object) -> None:
        self.backend = DiffusersBackend(settings.model_copy(update=changes))
        self.model = models.get(id)
        self.sampling = Sampling(1, 4.0, 64, 64)
        self.backend.prepare(self.model, [], self.sampling)
        self.pipe = self.backend._denoiser.pipe
        deciding = {name: value for name, value in changes.items() if name != "tiled_decoding"}
        self.backend._sizes = SIZES_OF.setdefault((id, str(deciding)), self.backend._sizes)

    def run(self, stopped: Callable[[], bool] = lambda: False, count: int = 4) -> dict[int, GeneratedImage]:
        found: dict[int, GeneratedImage] = {}
        self.backend.run(
            self.model, ROWS[:count], self.sampling, stopped, lambda index, made: found.update({index: made})
        )
        return found

    def limit(self, name: str, fits: Callable[[int], bool]) -> list[int]:
        """Makes a part of the pipeline run out of memory for batches that do not fit; returns the sizes tried."""
        part, tried = getattr(self.pipe, name), []
        method = "forward" if name == "unet" else "decode"
        plain = getattr(part, method)

        def limited(sample: torch.Tensor, *args: object, **kwargs: object) -> object:
            tried.append(len(sample))
            if not fits(len(sample)):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
            return plain(sample, *args, **kwargs)

        setattr(part, method, limited)
        return tried


def same(one: dict[int, GeneratedImage], other: dict[int, GeneratedImage]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[i].pixels, other[i].pixels) for i in one)


def test_a_batch_that_does_not_fit_runs_in_smaller_ones_with_the_same_bits(models, settings) -> None:
    bench = Bench(models, settings)
    whole = bench.run(count=9)
    sizes = bench.backend._batch_sizes(bench.sampling, True)
    assert len(ROWS) > sizes[-1]
    tried = bench.limit("unet", lambda rows: rows <= 2 * sizes[-1])
    small = bench.run(count=9)
    assert same(whole, small) and not any(made.fallbacks for made in small.values())
    assert max(tried) > 2 * sizes[-1] and {n for n in tried if n <= 2 * sizes[-1]} == {2 * sizes[-1]}


@pytest.mark.parametrize("id", ["starter", "sd1"])
def test_where_even_one_does_not_fit_parts_wait_elsewhere_and_the_bits_stay(id: str, models, settings) -> None:
    bench = Bench(models, settings, id)
    whole = bench.run()
    places, on = bench.backend._denoiser.places, []
    plain = places.only

    def watched(*names: str, level: FallbackLevel):
        on.append(level)
        return plain(*names, level=level)

    places.only = watched
    bench.limit("unet", lambda _rows: on[-1] >= FallbackLevel.WAITING)
    assert same(whole, bench.run()) and FallbackLevel.WAITING in on and FallbackLevel.TILES not in on


def test_tiles_only_where_the_owner_allows_them_and_the_image_says_so(models, settings) -> None:
    allowed = Bench(models, settings, "sd1", tiled_decoding=True)
    whole = allowed.run()
    assert not any(made.fallbacks for made in whole.values())
    allowed.limit("vae", lambda _rows: allowed.pipe.vae.use_tiling)
    assert {made.fallbacks for made in allowed.run().values()} == {("block_offload", "tiled_decoding")}
    assert not allowed.pipe.vae.use_tiling
    forbidden = Bench(models, settings, "sd1")
    forbidden.backend._sizes = {}  # so that memory runs out while sizes are measured, too
    forbidden.limit("vae", lambda _rows: forbidden.pipe.vae.use_tiling)
    with pytest.raises(ResourceExhausted) as caught:
        forbidden.run()
    assert caught.value.reason == "DEVICE_MEMORY" and "64x64" in caught.value.message
    assert "tiled_decoding" in caught.value.message


def test_when_nothing_helps_the_error_is_clear_and_the_next_request_works(models, settings) -> None:
    bench = Bench(models, settings, tiled_decoding=True)
    whole = bench.run()
    short = [True]
    bench.limit("unet", lambda _rows: not short[0])
    with pytest.raises(ResourceExhausted) as caught:
        bench.run()
    assert caught.value.reason == "DEVICE_MEMORY" and "ask for a smaller one." in caught.value.message
    short[0] = False
    assert same(whole, bench.run())


def test_other_failures_are_not_taken_for_a_shortage(models, settings) -> None:
    assert is_shortage(MemoryError()) and is_shortage(RuntimeError("DefaultCPUAllocator: not enough memory: you tried"))
    assert not is_shortage(RuntimeError("shapes do not match")) and not is_shortage(ValueError("out of memory"))
    bench = Bench(models, settings)
    bench.pipe.unet.forward = lambda *_args, **_kwargs: (_ for _ in ()).throw(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        bench.run()
    del bench.pipe.unet.forward
    with pytest.raises(Cancelled):
        bench.run(lambda: True)


def test_tiles_and_number_formats_are_named_in_the_record(generator) -> None:
    from konomi_generator.job import GenerationPlan
    from konomi_generator.png import konomi_record
    from konomi_generator.requests import Image, Request
    from konomi_generator.sampling import Prepared

    model, digest = generator.model("sd1")
    request = Request([Image("x", 1)], "sd1")
    plan = GenerationPlan(
        request, model, digest, Sampling(2, 4.0, 64, 64), [ImageRequest(0, "x", 1)], Prepared("PNDMScheduler", "fp16")
    )
    assert "concessions" not in json.loads(konomi_record(plan.record(0, ())))
    record = json.loads(konomi_record(plan.record(0, ("tiled_decoding",))))
    assert record["concessions"] == ["tiled_decoding"] and record["precision"] == "fp16"


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"attention_slicing": True}])
def test_other_numbers_and_sliced_attention_make_images_that_repeat(changes: dict, models, settings) -> None:
    plain, bench = Bench(models, settings).run(), Bench(models, settings, **changes)
    bench.backend._sizes[bench.backend._key, 64, 64, 1] = (4,)
    found = bench.run()
    assert same(found, bench.run()) and len(found) == 4
    assert np.mean([np.abs(found[i].pixels.astype(int) - plain[i].pixels).mean() for i in found]) < 20
    prepared = bench.backend.prepare(bench.model, [], bench.sampling)
    assert prepared.precision == changes.get("precision", "fp32")
