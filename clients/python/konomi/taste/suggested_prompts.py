"""Prompts suggested for a taste whose pictures carry none: words held against the liked pictures, as CLIP does.

Zero-shot naming by image-text similarity (Radford et al. 2103.00020): of every liked picture the nearest subject,
medium and mood of a small list; what many likes share comes first. A suggestion is a start to edit, not a caption.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from konomi import errors
from konomi.client import Client
from konomi.client.services import taste_name
from konomi.v1 import rater_pb2

MOST = 12
LOOKED_AT = 200
"""Liked pictures looked at."""
PAGE = 1000

SUBJECTS = (
    "a portrait of a woman", "a portrait of a man", "a group of people", "a child", "a couple", "a dancer", "a warrior",
    "an anime girl", "an anime boy", "a robot", "a dragon", "a monster", "a cat", "a dog", "a horse", "a bird",
    "a fish", "a butterfly", "a wild animal", "a flower", "a bouquet of flowers", "a tree", "a forest", "a garden",
    "a mountain", "a lake", "a river", "a waterfall", "the sea", "a beach", "a desert", "a field", "a snowy landscape",
    "the night sky", "a planet in space", "clouds", "a sunset", "a city street", "a city skyline", "a village",
    "a house", "a castle",
    "a temple", "a church", "a bridge", "ruins", "a room", "a window", "a car", "a train", "a ship", "an aeroplane",
    "a spaceship", "food on a table", "fruit", "a still life", "a book", "a machine", "jewellery", "a dress",
    "abstract shapes", "a pattern", "calligraphy",
)  # fmt: skip
MEDIA = (
    "a photograph", "a black and white photograph", "an oil painting", "a watercolour", "an ink drawing",
    "a pencil sketch", "an anime illustration", "a digital painting", "a 3D render", "pixel art", "a woodblock print",
    "a vector illustration",
)  # fmt: skip
MOODS = (
    "soft daylight", "golden evening light", "night", "neon light", "fog", "rain", "snow", "dark and dramatic",
    "pastel colours", "vivid colours", "muted colours",
)  # fmt: skip


def suggested(client: Client, taste: str) -> list[str]:
    """Returns up to MOST prompts, what many liked pictures share first; none where the embedder reads no text.

    Args:
        client: of a running rater.
        taste: id or name.
    """
    name = taste_name(taste)
    liked = rater_pb2.ImageFilter(grades=[rater_pb2.GRADE_SSR, rater_pb2.GRADE_UR])
    page = client.rater.list_images(taste=name, filter=liked, page_size=LOOKED_AT)
    digests = [image.digest for image in page.images]
    if not digests:
        return []
    try:
        nearest = [_nearest(client, name, words, digests) for words in (SUBJECTS, MEDIA, MOODS)]
    except errors.InvalidArgument as error:
        if error.reason == "NO_TEXT_TOWER":
            return []
        raise
    subjects, media, moods = nearest
    named = Counter(f"{subjects[digest]}, {media[digest]}, {moods[digest]}" for digest in digests)
    return [prompt for prompt, _ in sorted(named.items(), key=lambda item: (-item[1], item[0]))][:MOST]


def _nearest(client: Client, taste: str, words: Sequence[str], digests: Sequence[str]) -> dict[str, str]:
    """Returns the word nearest each picture."""
    best: dict[str, tuple[float, str]] = {}
    for word in words:
        similarities = _similarities(client, taste, word)
        for digest in digests:
            best[digest] = max(best.get(digest, (-2.0, word)), (similarities.get(digest, -1.0), word))
    return {digest: word for digest, (_, word) in best.items()}


def _similarities(client: Client, taste: str, word: str) -> Mapping[str, float]:
    """Returns the cosine of a word to the pictures of a taste that are nearest it."""
    reply = client.rater.search_images(taste=taste, text=word, count=PAGE)
    return {hit.image.digest: hit.similarity for hit in reply.hits}
