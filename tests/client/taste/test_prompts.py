"""The prompts of a taste: written down, taken from its pictures, or suggested by what was liked."""

import pytest

from konomi import errors
from konomi.taste import prompts
from konomi.taste.suggested_prompts import MEDIA, MOODS, SUBJECTS, suggested
from konomi.v1 import rater_pb2


def test_what_is_written_down_is_kept_once_a_line_and_can_be_taken_back(tmp_path):
    assert prompts.kept(tmp_path, "default") == []
    assert prompts.keep(tmp_path, "default", [" a temple ", "", "a cat", "a temple"]) == ["a temple", "a cat"]
    assert prompts.kept(tmp_path, "tastes/default") == ["a temple", "a cat"]
    assert prompts.file_of(tmp_path, "default").read_text() == "a temple\na cat\n"
    assert prompts.keep(tmp_path, "default", []) == [] == prompts.kept(tmp_path, "default")
    assert not prompts.file_of(tmp_path, "default").exists()


@pytest.mark.parametrize(
    ("lines", "reason", "words"),
    [
        ([str(n) for n in range(513)], "TOO_MANY_PROMPTS", "expected at most 512 prompts, got 513"),
        (["fine", "x" * 4097], "PROMPT_INVALID", "prompt 2 cannot be used: expected one line of at most 4096 bytes"),
        (["two\nlines"], "PROMPT_INVALID", "prompt 1 cannot be used"),
        (["two\u2028lines"], "PROMPT_INVALID", "prompt 1 cannot be used"),
        (["two\x85lines"], "PROMPT_INVALID", "prompt 1 cannot be used"),
        (["half a letter \ud800"], "PROMPT_INVALID", "prompt 1 cannot be used"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused_and_nothing_changes(tmp_path, lines, reason, words):
    prompts.keep(tmp_path, "default", ["as it was"])
    with pytest.raises(errors.InvalidArgument, match=words) as caught:
        prompts.keep(tmp_path, "default", lines)
    assert (caught.value.reason, caught.value.field) == (reason, "prompts")
    assert prompts.kept(tmp_path, "default") == ["as it was"]


@pytest.mark.parametrize(
    "taste", ["tastes//tmp/x", "../x", "tastes/../../x", "a/../b", "a\0b", "A", "", "tastes/", "x" * 41, "a.b"]
)
def test_no_name_of_a_taste_leads_out_of_the_home(tmp_path, taste):
    home = tmp_path / "deep" / "home"
    outside = tmp_path / "deep" / "x.txt"
    outside.parent.mkdir()
    outside.write_text("not yours")
    for ask in (lambda: prompts.keep(home, taste, ["x"]), lambda: prompts.keep(home, taste, []),
                lambda: prompts.kept(home, taste)):  # fmt: skip
        with pytest.raises(errors.InvalidArgument) as caught:
            ask()
        assert caught.value.field == "taste"
    assert outside.read_text() == "not yours" and not home.exists()


class Pictures:
    """A rater whose liked pictures are near some words."""

    def __init__(self, near: dict[str, list[str]], text: bool = True) -> None:
        self.rater, self.near, self.text, self.asked = self, near, text, []

    def list_images(self, **fields):
        images = [rater_pb2.Image(digest=digest, prompt="") for digest in self.near]
        return rater_pb2.ListImagesResponse(images=images, total_size=len(images))

    def search_images(self, text, **fields):
        if not self.text:
            raise errors.InvalidArgument("expected an image: no text tower", reason="NO_TEXT_TOWER")
        self.asked.append(text)
        hits = [
            rater_pb2.SearchHit(image=rater_pb2.Image(digest=digest), similarity=0.3 if text in words else 0.1)
            for digest, words in self.near.items()
        ]
        return rater_pb2.SearchImagesResponse(hits=hits)


def test_a_suggestion_says_what_many_likes_share_first():
    temple, cat = ["a temple", "a photograph", "fog"], ["a cat", "an oil painting", "night"]
    client = Pictures({"1": cat, "2": temple, "3": temple})
    assert suggested(client, "default") == ["a temple, a photograph, fog", "a cat, an oil painting, night"]
    assert len(client.asked) == len(SUBJECTS) + len(MEDIA) + len(MOODS)


def test_nothing_is_suggested_where_nothing_is_liked_or_the_embedder_reads_no_text():
    assert suggested(Pictures({}), "default") == []
    assert suggested(Pictures({"1": []}, text=False), "default") == []


def test_what_is_written_down_goes_before_what_pictures_carry(tmp_path, stand_in, client):
    assert prompts.at_hand(client, tmp_path, "default") == ([], "")
    digest = "a" * 64
    stand_in.rater.images[digest] = rater_pb2.Image(digest=digest, prompt=" a boat ", source=rater_pb2.SOURCE_IMPORTED)
    assert prompts.at_hand(client, tmp_path, "default") == (["a boat"], "pictures")
    prompts.keep(tmp_path, "default", ["a temple"])
    assert prompts.at_hand(client, tmp_path, "default") == (["a temple"], "kept")
