"""The size an image is brought to before a model sees it, by the rules of torchvision's Resize and CenterCrop."""

from dataclasses import dataclass

from konomi_chassis.decoding.worker_process import LONGEST


@dataclass(frozen=True)
class Fit:
    """What an image is brought to.

    Attributes:
        edge: pixels of the shorter side after resizing.
        width, height: of the middle that is kept.
        squash: resize to width x height whatever the shape; `edge` means nothing then.
        resampling: "bicubic" or "bilinear", with antialiasing.
    """

    edge: int
    width: int
    height: int
    squash: bool = False
    resampling: str = "bicubic"

    @property
    def least(self) -> tuple[int, int, bool]:
        """The (width, height) an image must still have when it is resized, and whether it is squashed."""
        return (self.width, self.height, True) if self.squash else (self.edge, self.edge, False)

    def cut(self, width: int, height: int) -> tuple[int, int]:
        """Returns the (width, height) of the middle that is looked at: of a very long image not all of it."""
        if self.squash:
            return width, height
        longest = LONGEST * min(width, height)
        return min(width, longest), min(height, longest)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Returns the (width, height) an image is resized to; rounded as torchvision rounds."""
        if self.squash:
            return self.width, self.height
        if width <= height:
            return self.edge, int(self.edge * height / width)
        return int(self.edge * width / height), self.edge
