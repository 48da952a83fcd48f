"""P7: wall time of the generator against the raw diffusers loop at equal images, bit by bit on a CPU.

Method: the same prompts, seeds, steps and batch sizes, by turns: one round of raw pipeline calls, one round of the use
case with its real store on disk (PNG encoded, hashed, fsynced). The raw loop gets all that makes it fast: texts
encoded before the clock starts, a pipeline and one torch thread per core, no files. P7 is the median of the rounds'
ratios. A second figure compares with the loop as people write it: one pipeline, all threads, texts in the call.
The raw loop starts from the same noise and decodes as the generator does: large images one by one, by the same
autoencoder in the same precision. On a GPU batches of one size are not one image's bits, so the pixels' relative error
is a figure there. Bundled starter models; `--model ID --home HOME` takes another model, `--images`, `--rounds` and
`--steps` their number.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import konomi_starter
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModel, BaseModels
from konomi_chassis.process import keep_freed_memory
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.backends.diffusers.batches import plan
from konomi_generator.backends.diffusers.latents import Latents, noise
from konomi_generator.generator import Generator
from konomi_generator.requests import Image, Request
from konomi_generator.sampling import ImageRequest, Sampling
from konomi_generator.settings import GeneratorSettings
from tests.benchmarks.results import Figure, report

PROMISED = 1.02
LARGEST_ERROR = 0.03
"""Of the pixels on a GPU, which rounds by the shape of a batch: norm of the difference over the norm."""
Maker = Callable[[], dict[int, np.ndarray]]


class Raw:
    """Raw pipeline calls with the generator's own batch sizes: a pipeline and a torch thread per worker."""

    def __init__(self, pipe, batches: Sequence, sampling: Sampling, workers: int, threads: int) -> None:
        self._pipes = [type(pipe)(**parts(pipe)) for _ in range(workers)]
        for own in self._pipes:
            own.set_progress_bar_config(disable=True)
            own.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
        self._batches, self._sampling, self._threads = batches, sampling, threads
        self._latents = Latents(pipe)
        with torch.inference_mode():
            self._texts = {w.prompt: encoded(pipe, w.prompt) for batch in batches for w in batch.images}
            self._negative = encoded(pipe, "")

    def __call__(self) -> dict[int, np.ndarray]:
        made: dict[int, np.ndarray] = {}
        shares = [self._batches[n :: len(self._pipes)] for n in range(len(self._pipes))]

        def work(pipe, share) -> None:
            torch.set_num_threads(self._threads)
            for batch in share:
                rows = [*batch.images, *[batch.images[-1]] * (batch.rows - len(batch.images))]
                for row, image in zip(rows, self._call(pipe, rows), strict=True):
                    made[row.index] = (image * 255).round().astype(np.uint8)

        with ThreadPoolExecutor(len(self._pipes)) as pool:
            for future in [pool.submit(work, pipe, share) for pipe, share in zip(self._pipes, shares, strict=True)]:
                future.result()
        return made

    def _call(self, pipe, rows: Sequence[ImageRequest]) -> np.ndarray:
        texts = [self._texts[row.prompt] for row in rows]
        given = {"prompt_embeds": torch.cat([hidden for hidden, _ in texts])}
        given["negative_prompt_embeds"] = self._negative[0].repeat(len(rows), 1, 1)
        if self._negative[1] is not None:
            zeros = torch.zeros_like(self._negative[1]).repeat(len(rows), 1)
            given |= {"pooled_prompt_embeds": torch.cat([pooled for _, pooled in texts])}
            given |= {"negative_pooled_prompt_embeds": zeros}
            given["negative_prompt_embeds"] = torch.zeros_like(given["negative_prompt_embeds"])
        generators = [torch.Generator().manual_seed(row.seed) for row in rows]
        shape = self._latents.shape(self._sampling, 1)
        drawn = torch.cat([noise(shape, generator) for generator in generators]).to(pipe.unet.device, pipe.unet.dtype)
        given |= {"latents": drawn, "generator": generators, "output_type": "latent"}
        with torch.inference_mode():
            return self._latents.decode(pipe(**given, **settings_of(self._sampling)).images)


def own_format(pipe) -> torch.nn.Module:
    """The autoencoder in the UNet's format, which a pipeline itself widens where it must."""
    return pipe.vae if pipe.vae.dtype == pipe.unet.dtype else copy.deepcopy(pipe.vae).to(pipe.unet.dtype)


def parts(pipe) -> dict[str, object]:
    """What a pipeline is made of; the weights are shared, not copied."""
    extra = {"requires_safety_checker": False} if "safety_checker" in pipe.components else {}
    return pipe.components | extra


def encoded(pipe, text: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A text's hidden states and, for SDXL, its pooled vector."""
    given = {"device": pipe.unet.device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    result = pipe.encode_prompt(text, **given)
    return result[0], result[2] if hasattr(pipe, "text_encoder_2") else None


def settings_of(sampling: Sampling) -> dict[str, object]:
    """The settings as a pipeline takes them."""
    return {
        "num_inference_steps": sampling.steps,
        "guidance_scale": sampling.guidance_scale,
        "width": sampling.width,
        "height": sampling.height,
    }


def plain_loop(pipe, requests: Sequence[ImageRequest], sampling: Sampling, rows: int) -> Maker:
    """The loop as people write it: prompts in the call, all threads, batches in turn, one number format for all."""
    pipe = type(pipe)(**parts(pipe) | {"vae": own_format(pipe)})
    pipe.set_progress_bar_config(disable=True)

    def run() -> dict[int, np.ndarray]:
        made = {}
        for start in range(0, len(requests), rows):
            part = requests[start : start + rows]
            generators = [torch.Generator().manual_seed(row.seed) for row in part]
            prompts = [row.prompt for row in part]
            images = pipe(prompts, **settings_of(sampling), generator=generators, output_type="np").images
            made |= {row.index: image for row, image in zip(part, images, strict=True)}
        return made

    return run


def timed(make: Maker) -> tuple[float, dict[int, np.ndarray]]:
    """Seconds and images of one round."""
    start = time.perf_counter()
    made = make()
    return time.perf_counter() - start, made


def konomi_maker(generator: Generator, store: ArtifactStore, decoder: Decoder, request: Request) -> Maker:
    """The generator's round; reading its files back for the comparison comes after the clock."""

    def run() -> dict[int, str]:
        found = {}
        for item in generator.generate(request, lambda: False):
            assert item.artifact is not None, item.error
            found[item.index] = item.artifact.digest
        return found

    return run  # type: ignore[return-value]


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="starter")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=8)
    return parser.parse_args()


def main() -> None:
    """Runs the rounds and reports."""
    given = arguments()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        home = given.home or Path(folder)
        if given.home is None:
            (home / "models").mkdir()
            models = Path(konomi_starter.__file__).with_name("models")
            (home / "models" / "starter").symlink_to(models)
        catalogue = BaseModels(home)
        measure(given, catalogue.get(given.model), catalogue, Path(folder))


def measure(given: argparse.Namespace, model: BaseModel, catalogue: BaseModels, folder: Path) -> None:
    """Runs the rounds of one model and reports."""
    settings = GeneratorSettings(home=folder)
    store, decoder, backend = ArtifactStore(StoreSettings(home=folder)), Decoder(), DiffusersBackend(settings)
    generator = Generator(catalogue, store, backend, decoder, writers=settings.writers, max_side=2048)
    sampling = Sampling(given.steps, 4.0, model.resolution, model.resolution)
    requests = [ImageRequest(n, f"a portrait of a person, number {n % 16}", 1000 + n) for n in range(given.images)]
    backend.prepare(model, [], sampling)
    small = settings.thread_count() > 0 and backend._device.type == "cpu" and len(requests) > 1
    sizes = backend._batch_sizes(sampling, small and model.parameters["unet"] < 50_000_000)
    workers = settings.thread_count() if sizes != (1,) and backend._device.type == "cpu" else 1
    threads = 1 if workers > 1 else settings.thread_count()
    batches = plan(requests, sizes, workers, lambda _item: 0)
    pipe = backend._denoiser.pipe
    raw = Raw(pipe, batches, sampling, workers, threads)
    simple = plain_loop(pipe, requests, sampling, batches[0].rows)
    images = [Image(item.prompt, item.seed) for item in requests]
    request = Request(images, model.id, steps=given.steps, guidance_scale=4.0)
    ours = konomi_maker(generator, store, decoder, request)
    rows, simple_seconds = [], []
    for number in range(given.rounds + 1):  # the first round warms up
        order = (raw, ours) if number % 2 else (ours, raw)
        seconds = {make: timed(make) for make in order}
        torch.set_num_threads(settings.thread_count())
        plain_seconds, _ = timed(simple) if number % 3 == 1 else (0.0, {})
        if number == 0:
            error = largest_error(seconds[raw][1], seconds[ours][1], store, decoder)
            allowed = 0.0 if backend._device.type == "cpu" else LARGEST_ERROR
            assert error <= allowed, f"the images differ by {error:.2%}"
            continue
        rows.append((seconds[ours][0], seconds[raw][0]))
        simple_seconds += [plain_seconds] if plain_seconds else []
    generator.close()
    decoder.close()
    ratio = statistics.median(own / other for own, other in rows)
    kind = "bit-identical images" if error == 0 else "images of the same noise"
    figures = [
        Figure("P7", f"generator over raw diffusers loop, {kind}", ratio, 1.0, "ratio", len(rows)),
        Figure("P7-error", "largest relative error of an image's pixels", error, LARGEST_ERROR, "share", len(requests)),
        Figure("P7", "of the promised ratio", ratio, PROMISED, "ratio", len(rows)),
        figure("against the loop as written by hand", rows, simple_seconds, len(requests)),
    ]
    report("generator", figures)


def figure(what: str, rows: Sequence[tuple[float, float]], others: Sequence[float], images: int) -> Figure:
    """Images a second of the generator, against another way."""
    own = images / statistics.median(seconds for seconds, _ in rows)
    return Figure("P7", what, own, images / statistics.median(others), "images/s", len(rows))


def largest_error(raw: dict[int, np.ndarray], ours: dict[int, str], store: ArtifactStore, decoder: Decoder) -> float:
    """The largest relative error of an image; 0 where all are equal to the last bit."""
    pairs = [(decoder.decode(store.get(ours[n])).pixels.astype(np.float32), pixels) for n, pixels in raw.items()]
    return max(float(np.linalg.norm(own - other) / max(np.linalg.norm(other), 1.0)) for own, other in pairs)


if __name__ == "__main__":
    main()
