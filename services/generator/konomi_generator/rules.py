"""Field rules of the requests of konomi.v1.GeneratorService."""

from konomi_chassis.rpc.field_rules import (
    BASE,
    BASE_OR_NONE,
    DIGEST,
    DIGEST_OR_NONE,
    UUID_OR_NONE,
    RequestRules,
    between,
    count,
    multiple,
    pattern,
    text,
)

RULES: RequestRules = {
    "ListBaseModelsRequest": {},
    "InspectModelRequest": {"id": BASE},
    "GenerateImagesRequest": {
        "base_model": BASE_OR_NONE,
        "adapters": count(0, 16),
        "adapters[].digest": DIGEST,
        "adapters[].scale": between(0, 2),
        "images": count(1, 10_000),
        "images[].prompt": text(),
        "images[].init_digest": DIGEST_OR_NONE,
        "images[].strength": between(0, 1),
        "negative_prompt": text(),
        "steps": between(0, 200),
        "guidance_scale": between(1, 30),
        "width": multiple(8, 4096),
        "height": multiple(8, 4096),
        "scheduler": pattern(r"[A-Za-z0-9]{1,64}", "the name of a diffusers scheduler", optional=True),
        "batch_size": between(0, 256),
        "unit": text(200),
        "night": text(200),
        "request_id": UUID_OR_NONE,
        "base_share": between(0, 1),
        "condition_annealing.clean_below": between(0, 1),
        "condition_annealing.noise_above": between(0, 1),
        "condition_annealing.noise_scale": between(0, 2),
        "condition_annealing.rescaled_share": between(0, 1),
        "preview_every": between(0, 200),
        "guidance_rescale": between(0, 1),
        "timestep_spacing": pattern(
            "leading|trailing|linspace|ays", '"leading", "trailing", "linspace" or "ays"', optional=True
        ),
        "clip_skip": between(1, 12, optional=True),
        "prompt_syntax": pattern("plain|weighted", '"plain" or "weighted"', optional=True),
    },
    "ReleaseMemoryRequest": {},
}
