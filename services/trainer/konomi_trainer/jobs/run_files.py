"""What runs leave in the home: checkpoints of each run and tensors of images, wherever the runs are trained."""

from pathlib import Path

from konomi_trainer.data.cache import TensorCache
from konomi_trainer.training.checkpoints import Checkpoints


class RunFiles:
    """The folders `cache` and `checkpoints` of a home."""

    def __init__(self, folder: Path) -> None:
        """Takes the home."""
        self.cache, self.checkpoints = TensorCache(folder / "cache"), folder / "checkpoints"

    def clear_unnamed(self) -> None:
        """Removes cached tensors of earlier versions that do not say which image they were made from."""
        self.cache.clear_unnamed()

    def unfinished(self) -> list[str]:
        """Returns the runs that have checkpoints, by id."""
        folders = sorted(self.checkpoints.glob("*")) if self.checkpoints.exists() else []
        return [path.name for path in folders if path.is_dir() and not path.is_symlink()]

    def forget(self, run: str) -> None:
        """Drops the checkpoints of a run that has ended."""
        Checkpoints(self.checkpoints / run).clear()
