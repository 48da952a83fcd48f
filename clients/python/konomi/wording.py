"""Words for what a base model does not know: a token before its class word, put into prompts and taken out again.

A prompt of a night keeps its tokens; a model that never learnt them is given the same prompt without them.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

TOKEN = re.compile(r"(<[a-z0-9][a-z0-9_-]{0,30}>)(\s*)")


@dataclass(frozen=True)
class Word:
    """A learnt word: its token V*, for example "<tama>", and what it is one of, for example "cat"."""

    token: str
    class_word: str

    def __str__(self) -> str:
        return f"{self.token} {self.class_word}"


def plain(prompt: str, known: Collection[str] = ()) -> str:
    """Returns a prompt without the tokens a model does not know; the class words stay."""
    return TOKEN.sub(lambda found: found[0] if found[1] in known else "", prompt).strip()


def named(prompt: str, word: Word) -> str:
    """Returns a prompt with a token before its class word; a prompt without the class word gets both in front."""
    if word.token in prompt:
        return prompt
    found = re.search(rf"\b{re.escape(word.class_word)}\b", prompt, re.IGNORECASE)
    if found is None:
        return f"{word}, {prompt}" if prompt else str(word)
    return f"{prompt[: found.start()]}{word.token} {prompt[found.start() :]}"


def class_of(caption: str) -> str:
    """Returns what a caption seems to be of: the last word before the first comma, "image" where there is none.

    For "ink portrait, red hair" that is "portrait". It is a guess; whoever knows better says so.
    """
    words = re.findall(r"[^\W\d_]+", plain(caption).partition(",")[0])
    return words[-1].lower() if words else "image"


def composed(prompts: Sequence[str], words: Sequence[Word]) -> list[str]:
    """Returns prompts that call each word alone in turn, and where there are several, then all of them together.

    Args:
        prompts: prompts, one or more.
        words: learnt words, one or more.
    """
    turns = [[word] for word in words] + ([list(words)] if len(words) > 1 else [])
    found = []
    for number in range(len(turns) * len(prompts)):
        prompt = prompts[number // len(turns)]
        for word in turns[number % len(turns)]:
            prompt = _joined(prompt, word)
        found.append(prompt)
    return list(dict.fromkeys(found))


def _joined(prompt: str, word: Word) -> str:
    """Returns `named`, but a class word the prompt lacks is said at its end: "ink portrait, <h> hair"."""
    if word.token in prompt or re.search(rf"\b{re.escape(word.class_word)}\b", prompt, re.IGNORECASE):
        return named(prompt, word)
    return f"{prompt}, {word}" if prompt else str(word)
