"""A back end made at its first use, or ahead of it in the background: what it stands on takes seconds to load."""

from collections.abc import Callable, Sequence

from konomi_chassis.lazy_value import LazyValue
from konomi_chassis.models.catalogue import BaseModel
from konomi_generator.sampling import (
    AdapterFile,
    Backend,
    Deliver,
    DeviceMemory,
    ImageRequest,
    Prepared,
    Sampling,
)


class LazyBackend:
    """Passes everything on to the back end behind it; a call that comes before it is there waits for it."""

    def __init__(self, make: Callable[[], Backend]) -> None:
        """Takes what makes the back end, called once."""
        self._backend = LazyValue(make)

    def make(self) -> None:
        """Makes the back end now; raises what making it raises."""
        self._backend()

    def prepare(
        self, model: BaseModel, adapters: Sequence[AdapterFile], sampling: Sampling, images: int = 1
    ) -> Prepared:
        """Gets a model with adapters ready; see `Backend`."""
        return self._backend().prepare(model, adapters, sampling, images)

    def run(
        self,
        model: BaseModel,
        images: Sequence[ImageRequest],
        sampling: Sampling,
        stopped: Callable[[], bool],
        deliver: Deliver,
    ) -> None:
        """Makes images; see `Backend`."""
        self._backend().run(model, images, sampling, stopped, deliver)

    def device_memory(self, model: BaseModel) -> DeviceMemory | None:
        """Returns where a model runs; see `Backend`."""
        return self._backend().device_memory(model)

    def release(self) -> int:
        """Gives back the memory of what `prepare` got ready; 0 where nothing was ever used."""
        made = self._backend.if_made
        return 0 if made is None else made.release()
