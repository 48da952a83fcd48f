"""Search by words and by images: the order open_clip itself would give, pages that join, and what is refused."""

import hashlib
import io
import json
import uuid

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from konomi.errors import FailedPrecondition, InvalidArgument, NotFound
from konomi.v1 import rater_pb2 as pb
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.registry import Embedders
from tests.rater.conftest import png
from tests.rater.models_on_disk import PREPROCESS, SECOND_CONFIG, weights, write_second_model

WORDS = ("a red hat", "two dogs in the snow", "an old machine", "夜の街")
COUNT = 30


def write_mute_model(models) -> str:
    """Writes an open_clip model whose tokenizer would have to be fetched, and returns its embedder's name."""
    folder = models / "open_clip" / "mute"
    if not folder.exists():
        folder.mkdir(parents=True)
        save_file(weights(SECOND_CONFIG), folder / "tiny.safetensors")
        words = {**SECOND_CONFIG["text_cfg"], "hf_tokenizer_name": "someone/tokenizer"}
        config = {"model_cfg": {**SECOND_CONFIG, "text_cfg": words}, "preprocess_cfg": PREPROCESS}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    return "open_clip:mute/tiny"


def made(rater, name: str, embedder: str = "", count: int = 0) -> tuple[str, dict[str, bytes]]:
    """Makes a taste of so many pictures of unlike colours, and returns its name and the pictures by digest."""
    request = pb.CreateTasteRequest(taste_id=name, taste={"embedder": embedder}, request_id=str(uuid.uuid4()))
    taste = rater.call("CreateTaste", request).name
    rng = np.random.default_rng(7)
    files = [png(tuple(rng.integers(0, 255, 3)), seed, 40 + seed) for seed in range(count)]
    pictures = {rater.put(data): data for data in files}
    added = rater.add(taste, [pb.Image(digest=digest, source=pb.SOURCE_IMPORTED) for digest in pictures])
    assert not [reply.error.message for reply in added if reply.HasField("error")]
    return taste, pictures


def search(rater, taste: str, **fields) -> pb.SearchImagesResponse:
    return rater.call("SearchImages", pb.SearchImagesRequest(taste=taste, **fields))


def order(reply: pb.SearchImagesResponse) -> list[str]:
    return [hit.image.digest for hit in reply.hits]


@pytest.fixture
def second(models):
    return write_second_model(models)


def test_words_rank_images_as_open_clip_itself_does(rater, second, models):
    taste, pictures = made(rater, "words", second, COUNT)
    model = open_clip.CLIP(**json.loads(json.dumps(SECOND_CONFIG))).eval()
    model.load_state_dict(load_file(models / "open_clip" / "second" / "tiny.safetensors"))
    prepare = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(size=32, **PREPROCESS), is_train=False
    )
    pixels = torch.stack([prepare(Image.open(io.BytesIO(data)).convert("RGB")) for data in pictures.values()])
    with torch.inference_mode():
        images = model.encode_image(pixels, normalize=True)
        texts = model.encode_text(open_clip.SimpleTokenizer(context_length=16)(list(WORDS)), normalize=True)
    digests, orders = list(pictures), set()
    for words, cosines in zip(WORDS, (texts @ images.T).numpy(), strict=True):
        reply = search(rater, taste, text=words, count=COUNT)
        expected = [digests[at] for at in np.argsort(-cosines, kind="stable")]
        assert [hit.similarity for hit in reply.hits] == pytest.approx(sorted(cosines, reverse=True), abs=1e-5)
        gaps = np.diff(np.sort(cosines)[::-1])  # two of nearly the same similarity may change places
        sure = [at for at in range(COUNT) if all(abs(gap) > 1e-4 for gap in gaps[max(0, at - 1) : at + 1])]
        assert len(sure) > COUNT // 2 and [order(reply)[at] for at in sure] == [expected[at] for at in sure]
        assert sorted(order(reply)) == sorted(digests) and reply.total_size == COUNT
        orders.add(tuple(expected))
    assert len(orders) == len(WORDS), "the words say different things to this model"


def test_pages_join_without_gap_or_repeat_and_end(rater, second):
    taste, _ = made(rater, "pages", second, COUNT)
    whole = search(rater, taste, text=WORDS[0], count=COUNT)
    pages = [search(rater, taste, text=WORDS[0], count=7, skip=skip) for skip in range(0, COUNT + 7, 7)]
    assert [len(page.hits) for page in pages] == [7, 7, 7, 7, 2, 0]
    assert [digest for page in pages for digest in order(page)] == order(whole)
    assert {page.total_size for page in pages} == {COUNT}
    assert not search(rater, taste, text=WORDS[0], skip=9999).hits


def test_what_is_found_is_scored_where_that_is_asked_for(rater, fitted):
    plain = search(rater, fitted.taste, text="a red cab", count=4)
    scored = search(rater, fitted.taste, text="a red cab", count=4, with_scores=True)
    assert order(plain) == order(scored) and not any(hit.image.HasField("score") for hit in plain.hits)
    for hit in scored.hits:
        known = rater.call("GetImage", pb.GetImageRequest(taste=fitted.taste, digest=hit.image.digest))
        assert hit.image.score == known.score and known.HasField("score")


def test_an_image_asked_with_is_neither_stored_nor_added(rater, second):
    taste, pictures = made(rater, "guest", second, COUNT)
    own, data = next(iter(pictures.items()))
    guest = png((20, 200, 90), 99, 57)
    found = search(rater, taste, image={"content": guest}, count=COUNT)
    assert len(found.hits) == COUNT and found.hits[0].similarity < 0.99999
    assert rater.call("GetTaste", pb.GetTasteRequest(name=taste)).image_count == COUNT
    with pytest.raises(NotFound):
        rater.store.get(hashlib.sha256(guest).hexdigest())
    by_bytes, by_digest = (search(rater, taste, image=image) for image in ({"content": data}, {"digest": own}))
    assert order(by_bytes) == order(by_digest) and order(by_digest)[0] == own


def refused(rater, taste: str, kind: type[Exception], **fields) -> str:
    with pytest.raises(kind) as caught:
        search(rater, taste, **fields)
    return f"{caught.value.reason}: {caught.value.message}"


def test_each_mistake_is_named(rater, second, models):
    taste, _ = made(rater, "mistakes", second, 2)
    long = refused(rater, taste, InvalidArgument, text="hat " * 15)
    assert long == (
        "TEXT_TOO_LONG: expected a text of at most 16 tokens, which is what this taste's embedder reads, found 17; "
        "use fewer words"
    )
    assert search(rater, taste, text="hat " * 14).hits
    assert "at most 4096 bytes of text were expected; 5000 came" in refused(
        rater, taste, InvalidArgument, text="a" * 5000
    )
    assert refused(rater, taste, InvalidArgument, text=" \u3000").startswith("TEXT_MISSING: expected words to search")
    assert refused(rater, taste, InvalidArgument).startswith("IMAGE_MISSING")
    assert refused(rater, taste, InvalidArgument, image={"content": b"no image"}).startswith("IMAGE_TYPE")
    assert "9999" in refused(rater, taste, InvalidArgument, text="hat", skip=10_000)
    absent = refused(rater, taste, NotFound, image={"digest": "ab" * 32})
    assert absent == f"ARTIFACT_NOT_FOUND: There is no artifact {'ab' * 32}; put it first."
    assert refused(rater, "tastes/nobody", NotFound, text="hat").startswith("TASTE_NOT_FOUND")
    empty, _ = made(rater, "empty", second)
    assert refused(rater, empty, FailedPrecondition, text="hat") == (
        "NO_IMAGES: expected a taste with images to search among, but tastes/empty has none; add some first"
    )
    mute, _ = made(rater, "mute", write_mute_model(models), 2)
    assert refused(rater, mute, InvalidArgument, text="hat") == (
        "NO_TEXT_TOWER: expected an image: this taste's embedder has no text tower; search by an image, or change to "
        "an embedder that reads text (konomi rater embedder)"
    )


def test_advice_says_before_who_reads_text(rater, second, models):
    mute = write_mute_model(models)
    for embedder, reads in ((second, True), (mute, False)):
        taste, _ = made(rater, f"advice-{reads}".lower(), embedder)
        advice = rater.call("AdviseEmbedder", pb.AdviseEmbedderRequest(taste=taste))
        assert advice.reads_text is reads
        assert {offer.embedder: offer.reads_text for offer in advice.offers}[mute if reads else second] is not reads
    embedders = Embedders(models, Placement(device="cpu", threads=1, batch=4))
    for embedder in ("starter", second, mute):
        assert embedders.reads_text(embedder) is embedders.open(embedder).reads_text
