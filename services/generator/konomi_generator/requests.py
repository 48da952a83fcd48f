"""What a caller asks of the generator and what comes back, before and after the back end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from konomi.errors import KonomiError
from konomi_chassis.models.catalogue import STARTER
from konomi_chassis.storage.artifacts import Artifact
from konomi_generator.prompts import Wildcard
from konomi_generator.sampling import Annealing


@dataclass(frozen=True)
class Image:
    """One image asked for: prompt template, seed, and for image to image where to start and how far to go.

    `draft_digest` is the draft it draws again in full.
    """

    prompt: str
    seed: int
    init_digest: str = ""
    strength: float = 0.5
    draft_digest: str = ""


@dataclass(frozen=True)
class Likeness:
    """Images as a prompt: their digests, and how strongly they count, None as strongly as the model's settings say."""

    digests: Sequence[str]
    scale: float | None = None


@dataclass(frozen=True)
class Request:
    """A request for images; what is 0, empty or None is left to the model's settings."""

    images: Sequence[Image]
    base_model: str = STARTER
    adapters: Sequence[tuple[str, float]] = ()
    negative_prompt: str = ""
    steps: int = 0
    guidance_scale: float | None = None
    width: int = 0
    height: int = 0
    scheduler: str = ""
    batch_size: int = 0
    unit: str = ""
    night: str = ""
    wildcards: Mapping[str, Wildcard] = field(default_factory=dict)
    guide_from_base: bool = False
    base_share: float = 0.0
    annealing: Annealing | None = None
    preview_every: int = 0
    guidance_rescale: float | None = None
    timestep_spacing: str = ""
    karras_sigmas: bool | None = None
    clip_skip: int = 0
    prompt_syntax: str = ""
    draft: bool = False
    likeness: Likeness | None = None


@dataclass(frozen=True)
class Finished:
    """One finished image: its artifact, or the error that left it out; or, on the way, a preview of it.

    Attributes:
        index: position in the request.
        prompt: after wildcards.
        seed: of this image.
        parents: digests it was made from.
        seconds: since the request began.
        artifact: the stored PNG.
        error: why there is none.
        preview: steps done and a small PNG, while the image is still being made.
        fallbacks: what was changed to fit it into memory.
        recalled: whether it was made before, for the same night, and only looked up.
    """

    index: int
    prompt: str
    seed: int
    parents: tuple[str, ...]
    seconds: float
    artifact: Artifact | None = None
    error: KonomiError | None = None
    preview: tuple[int, bytes] | None = None
    fallbacks: tuple[str, ...] = ()
    recalled: bool = False
