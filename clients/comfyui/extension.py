"""The same nodes in ComfyUI's V3 interface: a ComfyExtension that lists them."""

from comfy_api.latest import ComfyExtension, io

from .konomi_http import GRADES
from .nodes import ADDRESS, KonomiBucket, KonomiScore, KonomiSort

CATEGORY = "konomi"


def _rater() -> list:
    return [
        io.String.Input("address", default=ADDRESS, tooltip="What `konomi up` prints as its page."),
        io.String.Input("taste", default="default", tooltip="Id of the taste."),
    ]


class Score(io.ComfyNode):
    """Scores a batch."""

    @classmethod
    def define_schema(cls):
        """Names inputs and outputs."""
        outputs = [
            io.Image.Output(display_name="images"),
            io.Float.Output(display_name="utility", is_output_list=True),
            io.String.Output(display_name="grade", is_output_list=True),
            io.String.Output(display_name="scores"),
        ]
        inputs = [io.Image.Input("images"), *_rater()]
        return io.Schema("KonomiScore", "konomi: score", CATEGORY, inputs, outputs, description=KonomiScore.DESCRIPTION)

    @classmethod
    def execute(cls, **inputs):
        """Runs it."""
        return io.NodeOutput(*KonomiScore().run(**inputs))


class Sort(io.ComfyNode):
    """Sorts a batch and keeps its best."""

    @classmethod
    def define_schema(cls):
        """Names inputs and outputs."""
        outputs = [
            io.Image.Output(display_name="images"),
            io.Float.Output(display_name="utility", is_output_list=True),
            io.String.Output(display_name="grade", is_output_list=True),
        ]
        keep = io.Int.Input("keep", default=0, min=0, max=4096, tooltip="How many to keep; 0 keeps all.")
        inputs = [io.Image.Input("images"), keep, *_rater()]
        return io.Schema(
            "KonomiSort", "konomi: best first", CATEGORY, inputs, outputs, description=KonomiSort.DESCRIPTION
        )

    @classmethod
    def execute(cls, **inputs):
        """Runs it."""
        return io.NodeOutput(*KonomiSort().run(**inputs))


class Bucket(io.ComfyNode):
    """Splits a batch by grade."""

    @classmethod
    def define_schema(cls):
        """Names inputs and outputs."""
        outputs = [
            io.Image.Output(display_name="at least"),
            io.Image.Output(display_name="below"),
            io.Int.Output(display_name="count at least"),
            io.Int.Output(display_name="count below"),
        ]
        grade = io.Combo.Input("grade", options=list(GRADES), default="SSR")
        inputs = [io.Image.Input("images"), grade, *_rater()]
        return io.Schema(
            "KonomiBucket", "konomi: split by grade", CATEGORY, inputs, outputs, description=KonomiBucket.DESCRIPTION
        )

    @classmethod
    def execute(cls, **inputs):
        """Runs it."""
        return io.NodeOutput(*KonomiBucket().run(**inputs))


class KonomiExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def get_node_list(self):
        """Returns the nodes."""
        return [Score, Sort, Bucket]


async def comfy_entrypoint():
    """Returns the extension; ComfyUI calls it once."""
    return KonomiExtension()
