"""Settings of the rater."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from konomi.settings import KonomiSettings


class RaterSettings(KonomiSettings):
    """How the rater computes and what it remembers."""

    toml_table: ClassVar[str] = "rater"

    embedder_threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of the embedder and of linear algebra; two busy threads on two cores can be slower than one."""

    library_threads: int = Field(default=2, ge=1, le=256)
    """Threads that score a whole library after a fit: for less than a second, so they may be more than the others."""

    embedder_device: str = Field(default="auto", pattern=r"auto|cpu|cuda(:\d+)?")
    """Where the embedder runs; "auto" takes a GPU when there is one."""

    embedder_precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """What the embedder of a new taste computes in; "auto" is fp32 on the CPU and for what comes with konomi, and half
    precision on a GPU: bf16 where it computes in that, else fp16. It is part of the embedder's name ("…@bf16"), so a
    taste keeps its own on any machine; `konomi rater embedder` brings another."""

    embed_batch: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    """Images of all callers per pass at most; "auto" is 32 on the CPU and 64 on a GPU."""

    queue_images: int = Field(default=2048, ge=256)
    """Images that wait to be embedded at most; a call that would exceed it is refused, a stream is slowed down."""

    queue_mebibytes: int = Field(default=256, ge=16)
    """Encoded bytes of the images that wait at most, in MiB."""

    gather_seconds: float = Field(default=0.02, ge=0.0, le=5.0)
    """How long a stream waits for more images before it embeds a batch that is not full."""

    score_cache: int = Field(default=4096, ge=0)
    """Vectors of images no taste knows that are kept in memory."""

    cells: int = Field(default=12, ge=1, le=1024)
    """Cells the base model's images are divided into for the quota."""

    exact_rows: int = Field(default=200_000, ge=100)
    """Images of a taste up to which every neighbour search is exact; beyond, it finds 97 % of the nearest ten."""

    reference_images: int = Field(default=4096, ge=16)
    """Images at most that say what is typical; more are sampled."""

    repeat_share: float = Field(default=0.1, ge=0.0, le=0.5)
    """Share of suggestions that are hidden repeats during the first 200 labels; half of it later."""

    panel_start: int = Field(default=100, ge=0)
    """Graded images beyond which random labels join the frozen panel, which no rater version is ever fitted on."""

    panel_size: int = Field(default=200, ge=0)
    """Images at most in the panel; 0 means none."""

    panel_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the random labels that joins the panel while it grows; the others feed fits and their calibration."""

    audit_grades: int = Field(default=20, ge=0)
    """Hidden grades of every newest unit, half of them of images unlike anything graded; 0 means none."""

    audit_share: float = Field(default=0.25, ge=0.0, le=0.5)
    """Share of suggestions that are such, until there are as many."""

    pressure_nats: float = Field(default=6.0, gt=0.0)
    """Selection pressure, the sum of ln(1 / kept share) since a person last audited, above which there is an alarm."""

    read_only: bool = False
    """Answers beside the rater that writes, from the same database and store, and changes nothing: as many such
    replicas as scoring needs. `--read-only` says the same."""

    writer: str = Field(default="", max_length=255)
    """Address of the rater that writes, for example "rater.example:50051": told to whoever asks a replica for a
    change."""
