"""What is typical of a taste follows its base images: a score that rests on a kept set of them sees later ones."""

import io

import numpy as np
from PIL import Image

from konomi.v1 import rater_pb2 as pb


def stripes(seed: int) -> bytes:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[::2] = 255
    pixels[:, seed % 32] = seed
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_what_was_strange_is_typical_once_the_base_model_makes_more_of_it(rater, fitted):
    asked = pb.ScoreImagesRequest(taste=fitted.taste, images=[pb.ImageInput(content=stripes(200))])

    def typicality() -> float:
        return rater.call("ScoreImages", asked).results[0].score.typicality

    strange = typicality()
    assert typicality() == strange
    more = [rater.put(stripes(seed)) for seed in range(60)]
    rater.add(fitted.taste, [pb.Image(digest=one, source=pb.SOURCE_SELF, unit="base") for one in more])
    assert typicality() > strange + 0.1
