"""What the rater says in words: each sentence a name with its numbers, and the English that clients of old are sent.

A client that knows the name says it in its reader's language; any other shows the English.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

SENTENCES: Mapping[str, str] = {
    "gap": "Over-optimisation: from {first} to {last} the rater's mean grade rose {proxy:.2f} and people's own did not "
    "({human:+.2f}); grade more random images of {last}, or roll back.",
    "doubt": "Over-optimisation: the rater doubts the images of {last} {ratio:.1f} times as much as those of {first}; "
    "grade some of them.",
    "strangers": "Over-optimisation: {share:.0%} of the images of {last} are unlike anything known, {base:.0%} of "
    "{first}; look at them before going on.",
    "pressure": "Over-optimisation: {nats:.1f} nats of selection since a person last audited, more than {limit:.1f}; "
    "konomi rater certify audits a set.",
    "not_activated": "Not activated: on {n} panel images no version was fitted on it ranks surely worse than version "
    "{against} (srcc {srcc:.2f} against {earlier:.2f}); that one goes on scoring.",
    "only_favourites": "Only favourites are graded: the rater knows what is unlike the rest, not how often you would "
    "give a grade; grade some images you do not like.",
    "only_pairs": "Pairs say which image you prefer, not what is SSR or UR to you: how often you give each grade is "
    "assumed (of your images 4% UR, 8% SSR, 18% SR, 30% R, 40% N); grade {more} images in the view Grade to say it.",
    "pairs_chance": "On unseen pairs the rater is not surely better than chance ({share:.0%} right, {base:.0%} by "
    "chance): compare more pairs, or grade {more} images in the view Grade.",
    "few_ur": "Only {top} UR labels: probabilities of UR rest on the order of the lower grades; {missing} more images "
    "graded UR are enough, for example from the best of the Library.",
    "few_random": "Go on in the view Grade: once {missing} more of its random picks (about one image in five) are "
    "graded, the percentages can be checked.",
    "unmeasured": "Too few independent labels to measure the rater: grade {more} more images in the view Grade.",
    "chance": "On unseen labels the rater is not surely better than chance (srcc {low:.2f} to {high:.2f}): grade "
    "{more} more images in the view Grade.",
    "evidence_few": "Selection by evidence needs {needed} labels and there are {labels}: nothing was selected; until "
    "then konomi rater certify can vouch for a set.",
    "evidence_none": "{n} random labels show none of the images to be good at a false-discovery rate of {rate:.0%}: at "
    "least {least:.1%} of the candidates would have to qualify together; grade more random images, or allow a higher "
    "rate.",
    "evidence_all": "At most {rate:.0%} of these {count} images are below SSR, on average over draws of {n} random "
    "labels.",
    "evidence_cut": "At most {rate:.0%} of the {admitted} images that qualify are below SSR, on average over draws of "
    "{n} random labels; the {count} with the strongest evidence were selected.",
}
"""Name to English; the names are the contract's, and the client's table of sentences holds the same ones."""


@dataclass(frozen=True)
class Sentence:
    """One sentence.

    Attributes:
        name: which one; empty for a sentence of a version fitted before sentences had names.
        numbers: what its placeholders for numbers hold, not rounded.
        words: what its placeholders for words hold, for example the names of units.
        english: the sentence as it was stored; empty for one that is new.
    """

    name: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    english: str = ""

    def __str__(self) -> str:
        if self.english:
            return self.english
        words = SENTENCES[self.name].format(**self.numbers, **self.words)
        return words.replace("%", " %")  # as the client writes a share, and every other text: "65 %"
