"""What a run that is trained elsewhere says, made again what Trainer.fit says and returns; see run_process."""

from typing import Any

from konomi.errors import from_item
from konomi_trainer.jobs.publishing import Publication
from konomi_trainer.jobs.trainer import Artifacts, Listener, TrainedAdapter
from konomi_trainer.methods.base import Files
from konomi_trainer.training.loop import Progress, Stopped

ENDINGS = frozenset({"done", "stopped", "failed"})


class RunEvents:
    """Reads events, one JSON object each; files they name by digest are taken from the store."""

    def __init__(self, store: Artifacts) -> None:
        self._store = store

    def tell(self, event: dict[str, Any], listener: Listener) -> bool:
        """Tells a listener of an event that does not end the run; says whether the run waits for the word `kept`."""
        if event["event"] == "phase":
            listener.phase(event["name"])
        elif event["event"] == "progress":
            listener.progress(Progress(micro=0, step=event["step"], losses=[event["loss"]]))
        else:
            fields = {name: value for name, value in event.items() if name != "event"}
            sheet = self._store.get(fields["sheet"]) if fields["sheet"] else None
            listener.published(Publication(**{**fields, "files": self._files(fields["files"]), "sheet": sheet}))
            return True
        return False

    def outcome(self, event: dict[str, Any]) -> TrainedAdapter:
        """Returns what a run made by the event that ends it.

        Raises:
            Stopped: it was told to stop.
            KonomiError: why it made nothing.
        """
        if event["event"] == "stopped":
            raise Stopped
        if event["event"] == "failed":
            raise from_item(event["code"], event["reason"], event["message"])
        files = self._files(event["files"])
        assert files is not None
        return TrainedAdapter(files, event["media_type"], event["metrics"])

    def _files(self, digests: dict[str, Any] | None) -> Files | None:
        if digests is None:
            return None
        companions = tuple(self._store.get(digest) for digest in digests["companions"])
        return Files(self._store.get(digests["adapter"]), companions)
