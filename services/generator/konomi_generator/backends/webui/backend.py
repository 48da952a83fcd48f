"""The sdapi back end: images by a running A1111, Forge or SD.Next, with konomi's prompts, seeds and records.

One image a call, so that its seed is its own. What the program cannot do is refused, never left out in silence.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError, NotFound, Unimplemented
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.companions import Draft, LikenessAdapter
from konomi_chassis.models.model_settings import settings_of_names
from konomi_chassis.models.noise_schedule import NoiseSchedule
from konomi_chassis.models.prompt_weights import WeightedText, parse
from konomi_chassis.models.safetensors_check import check_bytes
from konomi_generator import png
from konomi_generator.backends.webui.client import SdapiClient, packed, unpacked
from konomi_generator.png import KARRAS, SAMPLERS, SCHEDULE_TYPES
from konomi_generator.sampling import (
    AdapterFile,
    Deliver,
    DeviceMemory,
    GeneratedImage,
    ImageRequest,
    Prepared,
    Sampling,
)

DEFAULT_SCHEDULER = "EulerDiscreteScheduler"
AUTOMATIC = "Automatic"
"""The program's name of what each of its samplers does by itself."""
TYPES = SCHEDULE_TYPES | {KARRAS: KARRAS}
DEFAULT_SIDE = 512
ODD = re.compile(r"[^a-z0-9._-]+")
KOHYA = ("lora_unet_", "lora_te")


class SdapiModels:
    """The models of the program, by ids made of their names; asked anew every time."""

    def __init__(self, client: SdapiClient) -> None:
        self._client = client

    def usable(self) -> list[BaseModel]:
        """Returns the program's models by id."""
        return [_model(entry) for _, entry in sorted(self._entries().items())]

    def get(self, id: str) -> BaseModel:
        """Returns a model. Raises NotFound where the program has none of that id."""
        entries = self._entries()
        if id not in entries:
            raise NotFound(
                f'{self._client.address} has no model "{id}"; it has: {", ".join(sorted(entries)) or "none"}.',
                reason="MODEL_MISSING",
            )
        return _model(entries[id])

    def digest(self, model: BaseModel) -> str:
        """Returns the sha256 the program knows of a model's file; empty where it has not hashed it yet."""
        entry = self._entries().get(model.id, {})
        return str(entry.get("sha256") or entry.get("hash") or "")

    def draft(self, model: BaseModel) -> Draft:
        """Raises Unimplemented: few-step adapters stand beside the home's own models."""
        raise _only_konomi("draft")

    def likeness(self, model: BaseModel) -> LikenessAdapter:
        """Raises Unimplemented: IP-Adapters stand beside the home's own models."""
        raise _only_konomi("image_prompt")

    def _entries(self) -> dict[str, dict[str, Any]]:
        listed = self._client.get("sd-models")
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise self._client.odd("its models are no list")
        return {_id(str(entry.get("model_name") or entry.get("title") or "")): entry for entry in listed}


class SdapiBackend:
    """Has the program make images, one at a time."""

    def __init__(self, client: SdapiClient, decoder: Decoder, lora_folder: Path | None) -> None:
        self._client, self._decoder, self._folder = client, decoder, lora_folder
        self._words, self._sampler, self._schedule_type = "", SAMPLERS[DEFAULT_SCHEDULER], AUTOMATIC

    def prepare(
        self, model: BaseModel, adapters: Sequence[AdapterFile], sampling: Sampling, images: int = 1
    ) -> Prepared:
        """Checks that the program can do what is asked and puts adapters where it finds them.

        What the model's settings alone ask for and the program does not offer is left out.

        Raises:
            InvalidArgument: no such scheduler here or there.
            Unimplemented: the settings ask for what only konomi's own back end does, or newer versions of the program.
            FailedPrecondition: adapters without a folder for them, or of other keys than the program reads.
        """
        _refuse_what_only_konomi_does(sampling)
        _refuse_marks(sampling.negative_prompt, sampling, "negative_prompt")
        name = self._chosen_sampler(sampling)
        spacing = self._chosen_spacing(sampling)
        self._sampler, self._schedule_type = SAMPLERS[name], TYPES.get(spacing, AUTOMATIC)
        self._words = "".join(f" <lora:{self._place(adapter)}:{adapter.scale:g}>" for adapter in adapters)
        if adapters:
            self._client.post("refresh-loras", {})
        karras = spacing == KARRAS
        return Prepared(name, "", "sdapi", timestep_spacing="" if karras else spacing, karras_sigmas=karras)

    def _chosen_sampler(self, sampling: Sampling) -> str:
        """Returns the scheduler asked for; the usual one where the program lacks that of the model's settings."""
        offered = self._offered("samplers", "name")
        name = sampling.scheduler or DEFAULT_SCHEDULER
        if "scheduler" in sampling.defaults and SAMPLERS.get(name) not in offered:
            name = DEFAULT_SCHEDULER
        if SAMPLERS.get(name) not in offered:
            names = sorted(ours for ours, theirs in SAMPLERS.items() if theirs in offered)
            raise InvalidArgument(
                f"One of {', '.join(names)} was expected, which {self._client.address} offers; {name[:64]!r} came.",
                reason="SCHEDULER",
                field="scheduler",
            )
        return name

    def _chosen_spacing(self, sampling: Sampling) -> str:
        """Returns how steps are to be spaced, Karras or a spacing of ours; empty where the program is to choose.

        Left to choose, it takes Karras' levels for some samplers, so whoever asked for none gets it told.
        """
        field = "karras_sigmas" if sampling.karras_sigmas else "timestep_spacing"
        none_asked = not sampling.karras_sigmas and "karras_sigmas" not in sampling.defaults
        wanted = KARRAS if sampling.karras_sigmas else sampling.timestep_spacing or ("linspace" if none_asked else "")
        if not wanted or TYPES[wanted] in self._offered("schedulers", "label"):
            return wanted
        if field in sampling.defaults:
            return ""
        raise Unimplemented(
            f"{self._client.address} offers no schedule type {TYPES[wanted]}, which {field} asks for; leave it out, or "
            "set the generator's backend to diffusers.",
            reason="BACKEND_FEATURE",
            field=field,
        )

    def _offered(self, path: str, key: str) -> set[str]:
        """Returns the names of what the program lists; none where it has no such list."""
        try:
            listed = self._client.get(path)
        except FailedPrecondition:
            if path == "samplers":
                raise
            return set()
        entries = listed if isinstance(listed, list) else []
        return {str(entry.get(key)) for entry in entries if isinstance(entry, dict)}

    def run(
        self,
        model: BaseModel,
        images: Sequence[ImageRequest],
        sampling: Sampling,
        stopped: Callable[[], bool],
        deliver: Deliver,
    ) -> None:
        """Makes images and delivers each as it comes; a picture to start from that cannot be read fails alone.

        Raises:
            Cancelled: `stopped` said so; the program was told to stop.
            KonomiError: the program failed.
        """
        for item in images:
            body = self._body(model, item, sampling)
            path = "txt2img"
            if item.init is not None:
                try:
                    pixels = png.fit(item.init(), sampling.width, sampling.height)
                except KonomiError as error:
                    deliver(item.index, error)
                    continue
                path = "img2img"
                body |= {"init_images": [packed(png.plain(pixels))], "denoising_strength": item.strength}
            deliver(item.index, self._generated(self._client.post(path, body, stopped), item, sampling))

    def device_memory(self, model: BaseModel) -> DeviceMemory | None:
        """Returns nothing: the other program's device is its own."""
        return None

    def release(self) -> int:
        """Gives nothing back: the other program's memory is its own."""
        return 0

    def _body(self, model: BaseModel, item: ImageRequest, sampling: Sampling) -> dict[str, Any]:
        if item.seed < 0:
            raise InvalidArgument(
                f"A seed of 0 or more was expected; {item.seed} came, which this back end takes for any.",
                reason="SEED",
                field=f"images[{item.index}].seed",
            )
        _refuse_marks(item.prompt, sampling, f"images[{item.index}].prompt")
        return {
            "prompt": item.prompt + self._words,
            "negative_prompt": sampling.negative_prompt,
            "seed": item.seed,
            "steps": sampling.steps,
            "cfg_scale": sampling.guidance_scale,
            "width": sampling.width,
            "height": sampling.height,
            "sampler_name": self._sampler,
            "scheduler": self._schedule_type,
            "batch_size": 1,
            "n_iter": 1,
            "send_images": True,
            "save_images": False,
            "do_not_save_samples": True,
            "do_not_save_grid": True,
            "override_settings": {
                "sd_model_checkpoint": str(model.path),
                "CLIP_stop_at_last_layers": sampling.clip_skip,
            },
            "override_settings_restore_afterwards": False,
        }

    def _generated(self, answer: Any, item: ImageRequest, sampling: Sampling) -> GeneratedImage:
        """Returns the image of an answer, checked against what was asked."""
        images = answer.get("images") if isinstance(answer, dict) else None
        data = unpacked(images[0]) if isinstance(images, list) and images else b""
        if not data:
            raise self._client.odd("it holds no image")
        info = _info(answer)
        if info.get("seed", item.seed) != item.seed:
            raise self._client.odd(f"its image has seed {info.get('seed')}, not {item.seed}")
        decoded = self._decoder.decode(data, f"images[{item.index}]")
        if (decoded.width, decoded.height) != (sampling.width, sampling.height):
            raise self._client.odd(f"its image is {decoded.width}x{decoded.height}")
        return GeneratedImage(decoded.pixels)

    def _place(self, adapter: AdapterFile) -> str:
        """Puts an adapter into the program's folder and returns the name it has there."""
        if self._folder is None:
            raise FailedPrecondition(
                "Adapters need the LoRA folder of the program: set the generator's sdapi_lora_folder.",
                reason="SDAPI_LORA_FOLDER",
            )
        header = check_bytes(adapter.data, f"The adapter {adapter.digest[:12]}")
        if not header.tensors or not all(name.startswith(KOHYA) for name in header.tensors):
            raise FailedPrecondition(
                f"The adapter {adapter.digest[:12]} has not the keys A1111 reads: give the one that `konomi models "
                "export --format kohya` writes.",
                reason="ADAPTER_KIND",
            )
        name = f"konomi-{adapter.digest[:12]}"
        target = self._folder / f"{name}.safetensors"
        if not target.is_file() or hashlib.sha256(target.read_bytes()).hexdigest() != adapter.digest:
            temporary = target.with_name(f".{name}.{os.getpid()}")
            temporary.write_bytes(adapter.data)
            temporary.replace(target)
        return name


def _refuse_what_only_konomi_does(sampling: Sampling) -> None:
    features = {
        "guide_from_base": sampling.guide_from_base,
        "base_share": sampling.base_share > 0,
        "condition_annealing": sampling.annealing is not None,
        "preview_every": sampling.preview_every > 0,
        "guidance_rescale": sampling.guidance_rescale > 0,
    }
    for name, used in features.items():
        if used:
            raise _only_konomi(name)


def _only_konomi(name: str) -> Unimplemented:
    return Unimplemented(
        f"{name} is not what the back end sdapi can do; leave it out, or set the generator's backend to diffusers.",
        reason="BACKEND_FEATURE",
        field=name,
    )


def _refuse_marks(prompt: str, sampling: Sampling, field: str) -> None:
    """Refuses brackets that are to be text: the program reads them as weights, always."""
    if sampling.prompt_syntax == "plain" and parse(prompt) != [[WeightedText(prompt)] if prompt else []]:
        raise Unimplemented(
            "The back end sdapi reads brackets and BREAK in prompts as marks, so prompt_syntax plain is not what it "
            'can do with this one; put a backslash before each bracket, or ask for "weighted".',
            reason="BACKEND_FEATURE",
            field=field,
        )


def _id(name: str) -> str:
    return ODD.sub("-", name.lower()).strip("-._")[:64]


def _model(entry: Mapping[str, Any]) -> BaseModel:
    name = str(entry.get("model_name") or entry.get("title") or "")
    schedule = NoiseSchedule(prediction_type="")
    return BaseModel(
        id=_id(name),
        path=Path(str(entry.get("title") or name)),
        layout="unknown",
        format="sdapi",
        size_bytes=0,
        resolution=DEFAULT_SIDE,
        parameters={},
        schedule=schedule,
        settings=settings_of_names([name], schedule),
    )


def _info(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the program says of an image: JSON inside the JSON."""
    try:
        info = json.loads(answer.get("info") or "{}")
    except (TypeError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}
