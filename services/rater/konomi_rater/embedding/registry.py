"""Opens embedders by name, once each: what turns images, and where it can texts, into unit vectors."""

import threading
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from safetensors import SafetensorError

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.lazy_value import LazyValue
from konomi_chassis.memory_shortage import is_broken_device, is_shortage, shortage
from konomi_chassis.models.safetensors_check import check_file
from konomi_chassis.process import map_torch
from konomi_rater.embedding import names, packaged
from konomi_rater.embedding.device import Placement, precision, settled
from konomi_rater.embedding.joined import Embedder, JoinedEmbedder
from konomi_rater.embedding.names import AUTO, FP32, LITE, STARTER, VLM, EmbedderName

MISFITS = (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError, AssertionError, AttributeError)
"""What the libraries raise where files do not fit each other."""
ADVICE = "close programs that hold memory, or set the rater's embedder_device to cpu, then try again"


BEFORE_TORCH = ("sklearn.cluster", "scipy.stats")
"""Libraries that look whether torch is there as they are imported, and fail on half of it: they come first."""


class Libraries:
    """What takes seconds to import: statistics, then torch and what knows the models, at the first use of any.

    Attributes:
        open_clip, timm: the modules of this room that stand on those libraries.
        placement: where towers run, settled.
        covering: the size that is enough for several embedders.
    """

    def __init__(self, placement: Placement) -> None:
        for name in BEFORE_TORCH:
            import_module(name)
        map_torch()
        from konomi_rater.embedding import open_clip, timm, tower

        self.open_clip, self.timm, self.placement = open_clip, timm, settled(placement)
        self.covering = tower.covering


class Embedders:
    """Opens embedders by name, once each; nothing is ever fetched."""

    def __init__(self, models: Path, placement: Placement) -> None:
        self._models = models
        self._libraries = LazyValue(lambda: Libraries(placement))
        self._asked = placement
        self._lock = threading.Lock()
        self._open: dict[str, Embedder] = {}

    def import_libraries(self) -> None:
        """Imports torch and the libraries of models, which takes seconds; what needs them waits for it."""
        self._libraries()

    @property
    def batch(self) -> int:
        """Images of a pass at most."""
        return self._libraries().placement.batch

    @property
    def folder(self) -> Path:
        """The home's folder of models."""
        return self._models

    def check(self, name: str) -> None:
        """Raises InvalidArgument for a name of no known form, FailedPrecondition where its files are missing."""
        for parts in names.parse(name).singles:
            if parts.plain == LITE:
                packaged.check(self._models)
            elif parts.kind == STARTER:
                _present(self._models / "starter" / "embedder" / "model.safetensors", parts)
            elif parts.kind == VLM:
                _present(names.folder(self._models, parts) / "config.json", parts)
            else:
                self._check_model(parts)
                _present(names.weights(self._models, parts), parts)

    def settle(self, name: str) -> str:
        """Returns the whole name of an embedder a taste is about to get, with this machine's precision if it has none.

        Where the settings leave the precision open, what comes with konomi stays in float32: it is small, and what is
        known beside it (portraits, population scores) was measured so.

        Raises:
            InvalidArgument: a name of no known form.
        """
        ours = all(single.plain in (STARTER, LITE) for single in names.parse(name).singles)
        ours &= self._asked.precision == AUTO
        return names.in_precision(name, FP32 if ours else precision(self._libraries().placement))

    def open(self, name: str) -> Embedder:
        """Returns the embedder of that name, loaded at its first use.

        Raises:
            InvalidArgument: a name of no known form.
            FailedPrecondition: files are missing, unreadable, unsafe or not safetensors.
            ResourceExhausted: memory ran out (OUT_OF_MEMORY).
        """
        with self._lock:
            return self._opened(name)

    def _opened(self, name: str) -> Embedder:
        """Returns an embedder, loaded where it is not; two that are joined are loaded as they would be alone."""
        if name not in self._open:
            self.check(name)
            try:
                self._open[name] = self._load(name)
            except (*MISFITS, MemoryError) as error:
                if is_shortage(error):
                    raise shortage(error, f"while loading the embedder {name!r}", ADVICE) from error
                if is_broken_device(error):
                    raise
                raise FailedPrecondition(
                    f"expected the embedder {name!r} to load, but its files do not fit "
                    f"({type(error).__name__}); install it again",
                    reason="EMBEDDER_UNREADABLE",
                ) from error
        return self._open[name]

    def at_hand(self) -> list[str]:
        """Returns the embedders whose files are on this machine, best first: open_clip models, timm's packaged one."""
        embedders, open_clip = [], self._libraries().open_clip
        for name, path in names.open_clip_names(self._models):
            if open_clip.is_known(name.model) or (path.parent / names.CONFIG).is_file():
                embedders.append(name.text)
        if packaged.installed(self._models) or packaged.source() is not None:
            embedders.append(LITE)
        return embedders

    def reads_text(self, name: str) -> bool:
        """Says whether an embedder can be searched by text, without loading it.

        Raises:
            InvalidArgument: a name of no known form.
        """
        return any(map(self._reads_text, names.parse(name).singles))

    def _reads_text(self, name: EmbedderName) -> bool:
        if name.kind != "open_clip":
            return name.kind == STARTER
        return self._libraries().open_clip.reads_text(name.model, names.weights(self._models, name))

    def _check_model(self, name: EmbedderName) -> None:
        libraries = self._libraries()
        open_clip, timm = libraries.open_clip, libraries.timm
        if name.kind == "open_clip":
            beside = names.weights(self._models, name).parent / names.CONFIG
            supported, library = open_clip.is_known(name.model) or beside.is_file(), "open_clip"
        else:
            supported, library = timm.is_known(name.model), "timm"
        if not supported:
            raise InvalidArgument(
                f"expected a model {library} knows, found {name.model!r}; see {library}.list_models()",
                reason="EMBEDDER_UNKNOWN",
                field="taste.embedder",
            )

    def _load(self, name: str) -> Embedder:
        parts, libraries = names.parse(name), self._libraries()
        if parts.joined:
            both = [self._opened(single.text) for single in parts.singles]
            return JoinedEmbedder(both, libraries.covering([one.fit for one in both]))
        placement, open_clip, timm = libraries.placement, libraries.open_clip, libraries.timm
        placement = replace(placement, precision=parts.precision)
        if parts.plain == LITE:
            return timm.open_timm(parts.model, packaged.weights(self._models), placement, layers="blocks")
        if parts.kind == STARTER:
            return open_clip.open_starter(self._models / "starter" / "embedder", placement)
        if parts.kind == VLM:
            from konomi_rater.embedding import vision_language  # brings transformers, which few need

            return vision_language.open_folder(names.folder(self._models, parts), int(parts.layers), placement)
        path = names.weights(self._models, parts)
        if parts.kind == "open_clip":
            return open_clip.open_weights(parts.model, parts.file, path, placement)
        check_file(path)
        return timm.open_timm(parts.model, path, placement, layers=parts.layers)


def _present(path: Path, name: EmbedderName) -> None:
    if not path.is_file():
        way = "python -m konomi_starter install" if name.kind == STARTER else f"put {path.name} into {path.parent}"
        raise FailedPrecondition(
            f"expected the files of the embedder {name.plain!r} in the home's models folder, found none; "
            f"install them: {way}",
            reason="EMBEDDER_MISSING",
        )
