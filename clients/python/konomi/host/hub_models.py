"""The short list of models `konomi models fetch` knows: where each file is, at which revision, and its digest.

Digests were taken from what is published of the files. Where none is known here it is empty: then the revision alone
is pinned, the hub's own word on the digest is shown, kept, and held against every later fetch.
"""

from dataclasses import dataclass

from konomi.i18n.catalogue import N_


@dataclass(frozen=True)
class Remote:
    """One file of a repository on the hub.

    Attributes:
        path: in the repository.
        target: where it goes, among the home's models.
        sha256: of its bytes; empty where it is not known here.
        size: in bytes; 0 where it is not known here.
    """

    path: str
    target: str
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class Download:
    """One model.

    Attributes:
        name: what to ask for.
        what: what it is, in a few words.
        repository, revision: where it is; the revision is a commit, which never changes. Empty where none is known
            here: then the hub names its newest at the first fetch, and that one is kept.
        licence: as its authors name it.
        files: what is fetched.
        folder: name among the home's models of a whole diffusers folder, which is fetched by what its own index files
            name; "" where `files` says it all.
        bound: what its licence forbids, one plain line that is said before anything is fetched; "" for nothing.
        draws: what a base model can draw, in one plain line; "" for what is none.
        about: bytes in all, counted from its parameters, where no file's size is known here.
    """

    name: str
    what: str
    repository: str
    revision: str
    licence: str
    files: tuple[Remote, ...]
    draws: str = ""
    about: int = 0
    folder: str = ""
    bound: str = ""

    @property
    def size(self) -> int:
        """Bytes of all its files, as far as they are known here, exactly or about."""
        return sum(file.size for file in self.files) or self.about


SIGLIP = "open_clip/ViT-SO400M-14-SigLIP-384/webli"

VIT_H = (
    Remote("models/image_encoder/config.json", "ip_adapter/image_encoder/config.json"),
    Remote(
        "models/image_encoder/model.safetensors",
        "ip_adapter/image_encoder/model.safetensors",
        "6ca9667da1ca9e0b0f75e46bb030f7e011f44f86cbfb8d5a36590fcd7507b030",
        2_528_373_448,
    ),
)
"""The image encoder both IP-Adapters were trained with."""

APPLE = "apple-amlr (for research only)"
"""Apple's licence for its models' weights, MobileCLIP2's among them: LICENSE_MODELS of apple/ml-mobileclip (2025), the
Apple Machine Learning Research Model licence, non-commercial research alone."""


def _embedder(
    name: str,
    what: str,
    repository: str,
    revision: str,
    licence: str,
    model: str,
    tag: str,
    size: int,
    sha256: str = "",
) -> Download:
    """Returns the weights alone of a model open_clip knows: its configuration comes with open_clip."""
    target = f"open_clip/{model}/{tag}.safetensors"
    file = Remote("open_clip_model.safetensors", target, sha256, size if sha256 else 0)
    whole = f"embedder, open_clip {model} ({tag}); {what}"
    return Download(name, whole, repository, revision, licence, (file,), about=0 if sha256 else size)


EMBEDDERS_OF_TODAY: tuple[Download, ...] = (
    _embedder(
        "siglip2-b16",
        "SigLIP 2, searched by pictures alone",
        "timm/ViT-B-16-SigLIP2",
        "eee10eff6dd8cabae2d7f379d4e8cfcd352030aa",
        "Apache-2.0",
        "ViT-B-16-SigLIP2",
        "webli",
        1_500_786_832,
        "d0a51069d2fa6c95b371b3bffd2a2c765c1815004798ee99f075290dbca73041",
    ),
    _embedder(
        "siglip2-so400m",
        "SigLIP 2, searched by pictures alone",
        "timm/ViT-SO400M-16-SigLIP2-384",
        "fec784dabb3081a5f101fc74eefaf9d1ed08237b",
        "Apache-2.0",
        "ViT-SO400M-16-SigLIP2-384",
        "webli",
        4_544_158_408,
    ),
    _embedder(
        "pe-core-b16",
        "Perception Encoder, reads words",
        "timm/PE-Core-B-16",
        "0038414f37721c5eafc1a5e0da802d291c909de3",
        "Apache-2.0",
        "PE-Core-B-16",
        "meta",
        1_790_642_180,
    ),
    _embedder(
        "pe-core-l14",
        "Perception Encoder, reads words",
        "timm/PE-Core-L-14-336",
        "8eff41b3f687e50a323662c2dda5eb3588c6dd35",
        "Apache-2.0",
        "PE-Core-L-14-336",
        "meta",
        2_684_555_268,
    ),
    _embedder(
        "mobileclip2-s0",
        "quick on a processor, reads words",
        "timm/MobileCLIP2-S0-OpenCLIP",
        "095906d28bf54d7584dc411e8ffe448f34289e05",
        APPLE,
        "MobileCLIP2-S0",
        "dfndr2b",
        299_543_500,
    ),
    _embedder(
        "mobileclip2-s2",
        "quick on a processor, reads words",
        "timm/MobileCLIP2-S2-OpenCLIP",
        "ac6b37c8fc40b62b623d09ed228a6f0c9bc29fe6",
        APPLE,
        "MobileCLIP2-S2",
        "dfndr2b",
        397_472_148,
    ),
)

APACHE = "Apache-2.0"
LONG_PROMPTS = N_("whatever a prompt says, in any style, at about 1024 pixels; long prompts, text in pictures")


def _flow(name: str, what: str, repository: str, revision: str, about: int) -> Download:
    """Returns a flow transformer's whole diffusers folder, whose licence is Apache-2.0."""
    return Download(
        name, f"base model, {what}", repository, revision, APACHE, (), LONG_PROMPTS, about=about, folder=name
    )


def _tiny_vae(name: str, what: str, repository: str, revision: str) -> Download:
    """Returns a tiny autoencoder for latents of 16 channels, 2.46 million weights in float32."""
    file = Remote("diffusion_pytorch_model.safetensors", f"tiny_vae/{name}.safetensors")
    return Download(f"tiny-vae-{name}", f"previews of {what}", repository, revision, "MIT", (file,), about=9_835_596)


TAEF1, TAESD3 = "b1b2d00e9e440cfbf3dedb34266864da86016ceb", "d58dcaccd2b36fcb7a6b9e93c1cc507acab5a778"
BLACK_FOREST = "FLUX non-commercial"
STABILITY = "Stability AI Community"


def _gated(name: str, what: str, repository: str, about: int, licence: str = APACHE, bound: str = "") -> Download:
    """Returns a flow transformer's whole diffusers folder, which the hub gives only to who has accepted its terms."""
    return Download(
        name, f"base model, {what}", repository, "", licence, (), LONG_PROMPTS, about=about, folder=name, bound=bound
    )


NOT_FOR_SALE = N_("for non-commercial use alone, and so is what is trained on it")
SMALL_BUSINESS = N_(
    "free to use below one million US dollars of revenue a year; above that Stability AI sells a licence"
)
GATED_BASES: tuple[Download, ...] = (
    _gated("flux1-schnell", "FLUX.1 [schnell], in 4 steps", "black-forest-labs/FLUX.1-schnell", 33_700_000_000),
    _gated(
        "flux1-dev",
        "FLUX.1 [dev]",
        "black-forest-labs/FLUX.1-dev",
        33_700_000_000,
        BLACK_FOREST,
        NOT_FOR_SALE,
    ),
    _gated(
        "flux2-klein-base-9b",
        "FLUX.2 [klein] base 9B",
        "black-forest-labs/FLUX.2-klein-base-9B",
        34_700_000_000,
        BLACK_FOREST,
        NOT_FOR_SALE,
    ),
    _gated(
        "sd35-medium",
        "Stable Diffusion 3.5 Medium",
        "stabilityai/stable-diffusion-3.5-medium",
        16_300_000_000,
        STABILITY,
        SMALL_BUSINESS,
    ),
    _gated(
        "sd35-large",
        "Stable Diffusion 3.5 Large",
        "stabilityai/stable-diffusion-3.5-large",
        27_600_000_000,
        STABILITY,
        SMALL_BUSINESS,
    ),
)
"""Those whose terms have to be accepted on the hub, with a token then; konomi knows no revision of them."""


FLOW_BASES: tuple[Download, ...] = (
    _flow(
        "z-image",
        "Z-Image",
        "Tongyi-MAI/Z-Image",
        "04cc4abb7c5069926f75c9bfde9ef43d49423021",
        20_500_000_000,
    ),
    _flow(
        "z-image-turbo",
        "Z-Image-Turbo, in 8 steps",
        "Tongyi-MAI/Z-Image-Turbo",
        "f332072aa78be7aecdf3ee76d5c247082da564a6",
        32_800_000_000,
    ),
    _flow(
        "flux2-klein-base-4b",
        "FLUX.2 [klein] base 4B",
        "black-forest-labs/FLUX.2-klein-base-4B",
        "a3b4f4849157f664bdbc776fd7453c2783562f4d",
        16_000_000_000,
    ),
    _flow(
        "flux2-klein-4b",
        "FLUX.2 [klein] 4B, in 4 steps",
        "black-forest-labs/FLUX.2-klein-4B",
        "e7b7dc27f91deacad38e78976d1f2b499d76a294",
        16_000_000_000,
    ),
    _flow(
        "chroma1-hd",
        "Chroma1-HD",
        "lodestones/Chroma1-HD",
        "0e0c60ece1e82b17cb7f77342d765ba5024c40c0",
        27_500_000_000,
    ),
    _flow(
        "qwen-image",
        "Qwen-Image",
        "Qwen/Qwen-Image",
        "75e0b4be04f60ec59a75f475837eced720f823b6",
        57_700_000_000,
    ),
    _flow("lumina-image-2", "Lumina Image 2.0", "Alpha-VLLM/Lumina-Image-2.0", "", 10_600_000_000),
)
"""Those that everybody may fetch."""

DOWNLOADS: tuple[Download, ...] = (
    Download(
        "sd15",
        "base model, Stable Diffusion 1.5",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        "CreativeML OpenRAIL-M",
        (
            Remote(
                "v1-5-pruned-emaonly.safetensors",
                "sd15.safetensors",
                "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
                4_265_146_304,
            ),
        ),
        N_("whatever a prompt says, in any style, at about 512 pixels"),
    ),
    Download(
        "sdxl",
        "base model, Stable Diffusion XL 1.0",
        "stabilityai/stable-diffusion-xl-base-1.0",
        "462165984030d82259a11f4367a4eed129e94a7b",
        "CreativeML Open RAIL++-M",
        (
            Remote(
                "sd_xl_base_1.0.safetensors",
                "sdxl.safetensors",
                "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b",
                6_938_078_334,
            ),
        ),
        N_("whatever a prompt says, in any style, at about 1024 pixels; longer prompts, finer hands and faces"),
    ),
    *FLOW_BASES,
    *GATED_BASES,
    Download(
        "clip-vit-b-32",
        "embedder, open_clip ViT-B-32 (laion2b_s34b_b79k)",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "1a25a446712ba5ee05982a381eed697ef9b435cf",
        "MIT",
        (
            Remote(
                "open_clip_model.safetensors",
                "open_clip/ViT-B-32/laion2b_s34b_b79k.safetensors",
                "ac4f8c4b88af6d963118cbf40ad93176d092abbedfcb752601ae1866352656e6",
                605_143_316,
            ),
        ),
    ),
    Download(
        "clip-vit-l-14",
        "embedder, open_clip ViT-L-14 (laion2b_s32b_b82k)",
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "1627032197142fbe2a7cfec626f4ced3ae60d07a",
        "MIT",
        (
            Remote(
                "open_clip_pytorch_model.safetensors",
                "open_clip/ViT-L-14/laion2b_s32b_b82k.safetensors",
                "7d129ed747e0ed53e82dfcc140382b51be66b56e6a9bdc3258afd2846e3bb019",
                1_710_517_748,
            ),
        ),
    ),
    Download(
        "siglip-so400m",
        "embedder, open_clip ViT-SO400M-14-SigLIP-384 (webli), with its tokenizer",
        "timm/ViT-SO400M-14-SigLIP-384",
        "ac16108d567c4389e6cd2b11c9b8585f7474435b",
        "Apache-2.0",
        (
            Remote("open_clip_config.json", f"{SIGLIP}/open_clip_config.json"),
            Remote("tokenizer.json", f"{SIGLIP}/tokenizer.json"),
            Remote("tokenizer_config.json", f"{SIGLIP}/tokenizer_config.json"),
            Remote("special_tokens_map.json", f"{SIGLIP}/special_tokens_map.json"),
            Remote("open_clip_model.safetensors", f"{SIGLIP}/open_clip_model.safetensors"),
        ),
        about=3_512_000_000,
    ),
    *EMBEDDERS_OF_TODAY,
    Download(
        "tiny-vae-sd",
        "previews of Stable Diffusion 1.x and 2.x",
        "madebyollin/taesd",
        "614f76814bbe30edbe2e627ace1c2234c81a2c0e",
        "MIT",
        (
            Remote(
                "diffusion_pytorch_model.safetensors",
                "tiny_vae/sd.safetensors",
                "db169d69145ec4ff064e49d99c95fa05d3eb04ee453de35824a6d0f325513549",
                9_793_292,
            ),
        ),
    ),
    Download(
        "tiny-vae-sdxl",
        "previews of Stable Diffusion XL",
        "madebyollin/taesdxl",
        "b20258aaef75ef61e659c1e0f14f251cf0ad153e",
        "MIT",
        (
            Remote(
                "diffusion_pytorch_model.safetensors",
                "tiny_vae/sdxl.safetensors",
                "ff4824aca94dd6111e0340fa749347fb74101060d9712cb5ef1ca8f1cf17502f",
                9_793_292,
            ),
        ),
    ),
    _tiny_vae("flux1", "FLUX.1, Chroma, Z-Image and Lumina 2", "madebyollin/taef1", TAEF1),
    _tiny_vae("sd3", "Stable Diffusion 3 and 3.5", "madebyollin/taesd3", TAESD3),
    Download(
        "lcm-lora-sd15",
        "few-step adapter for drafts, Stable Diffusion 1.5",
        "latent-consistency/lcm-lora-sdv1-5",
        "cf2fced511dbe7e26c8d1d397e728fbab875db4b",
        "CreativeML Open RAIL++-M",
        (
            Remote(
                "pytorch_lora_weights.safetensors",
                "few_step/lcm-lora-sdv1-5.safetensors",
                "8f90d840e075ff588a58e22c6586e2ae9a6f7922996ee6649a7f01072333afe4",
                134_621_556,
            ),
        ),
    ),
    Download(
        "lcm-lora-sdxl",
        "few-step adapter for drafts, Stable Diffusion XL",
        "latent-consistency/lcm-lora-sdxl",
        "a18548dd4956b174ec5b0d78d340c8dae0a129cd",
        "CreativeML Open RAIL++-M",
        (
            Remote(
                "pytorch_lora_weights.safetensors",
                "few_step/lcm-lora-sdxl.safetensors",
                "a764e6859b6e04047cd761c08ff0cee96413a8e004c9f07707530cd776b19141",
                393_855_224,
            ),
        ),
    ),
    Download(
        "ip-adapter-sd15",
        "images as a prompt, Stable Diffusion 1.5, with the image encoder",
        "h94/IP-Adapter",
        "018e402774aeeddd60609b4ecdb7e298259dc729",
        "Apache-2.0",
        (
            Remote(
                "models/ip-adapter_sd15.safetensors",
                "ip_adapter/ip-adapter_sd15.safetensors",
                "289b45f16d043d0bf542e45831f971dcdaabe18b656f11e86d9dfba7e9ee3369",
                44_642_768,
            ),
            *VIT_H,
        ),
    ),
    Download(
        "ip-adapter-sdxl",
        "images as a prompt, Stable Diffusion XL, with the image encoder",
        "h94/IP-Adapter",
        "018e402774aeeddd60609b4ecdb7e298259dc729",
        "Apache-2.0",
        (
            Remote(
                "sdxl_models/ip-adapter_sdxl_vit-h.safetensors",
                "ip_adapter/ip-adapter_sdxl_vit-h.safetensors",
                "ebf05d918348aec7abb02a5e9ecef77e0aaea6914a5c4ea13f50d45eb1681831",
                698_391_064,
            ),
            *VIT_H,
        ),
    ),
)
