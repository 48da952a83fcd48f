"""Hidden layers of a vision-language model: a tiny random one, made here, behind the registry's name for it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.names import in_precision, parse, space_of
from konomi_rater.embedding.registry import Embedders

CPU = Placement("cpu", 1, 16)
PICTURES = [np.random.default_rng(i).integers(0, 255, (40 + i, 50, 3), dtype=np.uint8) for i in range(3)]
WORDS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<image>": 3, "USER": 4}
BLOCKS, WIDTH = 3, 24


def write_llava(folder: Path) -> None:
    """Writes a random LLaVA of two towers, a few thousand numbers, with its processor, as transformers saves them."""
    torch.manual_seed(0)
    seen = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = transformers.CLIPVisionConfig(image_size=32, patch_size=16, projection_dim=16, **seen)
    thought = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": BLOCKS, "num_attention_heads": 2}
    language = transformers.LlamaConfig(num_key_value_heads=2, vocab_size=len(WORDS), **thought)
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=language, image_token_id=WORDS["<image>"], vision_feature_layer=-1
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel(WORDS, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "additional_special_tokens": ["<image>"]}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)
    pixels = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.LlavaProcessor(
        pixels, tokenizer, patch_size=16, vision_feature_select_strategy="default", num_additional_image_tokens=1
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder of models with one vision-language model."""
    folder = tmp_path_factory.mktemp("models")
    write_llava(folder / "vlm" / "tiny")
    return folder


def test_each_layer_is_an_embedder_whose_rows_do_not_depend_on_their_neighbours(home):
    embedders = Embedders(home, CPU)
    rows = [embedders.open(f"vlm:tiny#{layer}").embed(PICTURES, keep=True) for layer in (0, 2, BLOCKS)]
    for found in rows:
        assert found.shape == (3, WIDTH) and np.allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
        assert np.abs(found @ found.T - 1)[~np.eye(3, dtype=bool)].min() > 0.01, "pictures are told apart"
    assert np.abs(rows[0] - rows[1]).max() > 0.05 and np.abs(rows[1] - rows[2]).max() > 0.05
    alone = embedders.open("vlm:tiny#2").embed(PICTURES[1:2], keep=True)
    assert np.array_equal(alone[0], rows[1][1])
    with pytest.raises(InvalidArgument, match="no text tower"):
        embedders.open("vlm:tiny#2").embed_texts(["a cat"])


def test_the_vector_is_the_mean_of_what_the_layer_says_of_the_pictures_tokens(home):
    folder = home / "vlm" / "tiny"
    embedder = Embedders(home, CPU).open("vlm:tiny#2")
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.LlavaForConditionalGeneration.from_pretrained(folder).eval()
    inputs = processor(
        images=[embedder._prepare.stacked(PICTURES[:1])[0].numpy()], text=["<image>"], return_tensors="pt"
    )
    with torch.inference_mode():
        states = model(**inputs, output_hidden_states=True).hidden_states[2][0]
    shown = states[inputs["input_ids"][0] == WORDS["<image>"]]
    assert len(shown) == 4, "a picture of 32 pixels is four patches of 16"
    wanted = torch.nn.functional.normalize(shown.mean(dim=0), dim=0).numpy()
    assert np.allclose(embedder.embed(PICTURES[:1], keep=False)[0], wanted, atol=1e-5)


def test_a_name_says_folder_layer_and_space():
    name = parse("vlm:tiny#12@bf16")
    assert (name.kind, name.model, name.layers, name.precision) == ("vlm", "tiny", "12", "bf16")
    assert name.text == "vlm:tiny#12@bf16" and in_precision("vlm:tiny#3", "fp16") == "vlm:tiny#3@fp16"
    assert space_of("vlm:tiny#3") == "vlm:tiny#3-mean/1"
    assert space_of("starter+vlm:tiny#3@bf16") == "starter+vlm:tiny#3-mean/1@bf16"


@pytest.mark.parametrize(
    "name", ["vlm:tiny", "vlm:tiny#early", "vlm:tiny#-1", "vlm:a/b#1", "vlm:../x#1", "vlm:tiny#01"]
)
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(InvalidArgument, match="vlm:FOLDER#layer") as caught:
        parse(name)
    assert caught.value.reason == "EMBEDDER_UNKNOWN"


def test_what_cannot_be_an_embedder_says_why(home):
    embedders = Embedders(home, CPU)
    with pytest.raises(FailedPrecondition, match="layers 0 to 3, and 4 was asked for") as caught:
        embedders.open("vlm:tiny#4")
    assert caught.value.reason == "EMBEDDER_UNSUPPORTED"
    with pytest.raises(FailedPrecondition, match="put config") as missing:
        embedders.open("vlm:other#1")
    assert missing.value.reason == "EMBEDDER_MISSING"
    blind = transformers.LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
    blind.save_pretrained(home / "vlm" / "blind")
    with pytest.raises(FailedPrecondition, match="takes no pictures") as caught:
        embedders.open("vlm:blind#1")
    assert caught.value.reason == "EMBEDDER_UNSUPPORTED"
    write_llava(home / "vlm" / "broken")
    (home / "vlm" / "broken" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(FailedPrecondition) as unsafe:
        embedders.open("vlm:broken#1")
    assert unsafe.value.reason in ("UNSAFE_FORMAT", "EMBEDDER_UNREADABLE")
