"""What a call costs does not grow with the log: SQLite's own steps are counted at 200 labels and at 2,000."""

import uuid
from collections.abc import Callable

import numpy as np
import pytest
import sqlalchemy

from konomi.v1 import rater_pb2 as pb
from konomi_chassis.auth.authentication import CURRENT, Principal
from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import open_database
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.registry import Embedders
from konomi_rater.servicer.rater import RaterServicer
from konomi_rater.settings import RaterSettings
from konomi_rater.storage import comparisons, image_records, labels, tastes
from konomi_rater.storage.comparisons import ComparisonEntry
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.labels import REPEAT_CHECK, NewLabel
from konomi_rater.storage.schema import MIGRATIONS
from konomi_rater.usecases.rater import Rater
from konomi_rater.usecases.workspace import Parts, Workspace

TASTE = "tastes/t"
FEW, MANY = 200, 2000


class Home:
    """A rater over a taste with so many labels and half as many images again; `steps` counts what SQLite does."""

    def __init__(self, folder, count: int) -> None:
        self.steps, self.digests = 0, [f"{number:064x}" for number in range(count * 3 // 2)]
        engine = open_database(folder / "databases" / "rater.sqlite", MIGRATIONS)
        self.fill(engine, count)
        sqlalchemy.event.listen(engine, "checkout", self.watch)
        settings = RaterSettings(home=folder, panel_start=10)
        parts = Parts(
            engine=engine,
            store=ArtifactStore(StoreSettings(home=folder)),
            decoder=Decoder(DecodeSettings(home=folder)),
            embedders=Embedders(folder / "models", Placement("cpu", 1, 1)),
            settings=settings,
            clock=lambda: 5.0,
        )
        self.rater = Rater(Workspace(parts))
        self.servicer = RaterServicer(self.rater)

    def fill(self, engine: sqlalchemy.Engine, count: int) -> None:
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((len(self.digests), 8)).astype(np.float32)
        with engine.begin() as connection:
            tastes.create(connection, "t", "", "starter", "starter", 0.0)
            image_records.remember_embeddings(connection, "starter", dict(zip(self.digests, rows, strict=True)))
            for digest in self.digests:
                image_records.add(connection, "t", ImageFacts(digest, 1, "a prompt", 1, "unit"), (8, 8), 0.0)
            graded = [NewLabel(digest, 1 + i % 5) for i, digest in enumerate(self.digests[:count])]
            labels.record(connection, "t", graded, 1.0)
            labels.record(connection, "t", [NewLabel(self.digests[0], 3, reason=REPEAT_CHECK)], 1.0)
            for left, right in zip(self.digests[:count], self.digests[1:], strict=False):
                comparisons.record(connection, "t", ComparisonEntry(left, right, tie=False), 1.0)

    def watch(self, connection, _record, _proxy) -> None:
        connection.set_progress_handler(self.count, 1)

    def count(self) -> int:
        self.steps += 1
        return 0

    def cost(self, call: Callable[["Home"], object]) -> int:
        """Returns the fewest steps of three calls, the first of which may bring memory up to date."""
        costs = []
        caller = CURRENT.set(Principal("owner", "owner"))
        for _ in range(3):
            self.steps = 0
            call(self)
            costs.append(self.steps)
        CURRENT.reset(caller)
        return min(costs)

    def record(self, digest: str) -> None:
        label = pb.Label(image_digest=digest, grade=pb.GRADE_SR, reason=pb.SUGGESTION_REASON_RANDOM)
        request = pb.RecordLabelsRequest(taste=TASTE, labels=[label], request_id=str(uuid.uuid4()))
        self.servicer.RecordLabels(request, None)

    def record_and_undo(self) -> None:
        self.record(self.digests[-1])
        self.servicer.UndoLabel(pb.UndoLabelRequest(taste=TASTE, request_id=str(uuid.uuid4())), None)

    def compare_and_undo(self) -> None:
        pair = pb.Comparison(winner_digest=self.digests[0], loser_digest=self.digests[1])
        self.servicer.RecordComparison(pb.RecordComparisonRequest(taste=TASTE, comparison=pair), None)
        self.servicer.UndoComparison(pb.UndoComparisonRequest(taste=TASTE), None)

    def labels(self, **fields) -> None:
        self.servicer.ListLabels(pb.ListLabelsRequest(taste=TASTE, page_size=20, **fields), None)

    def images(self, **fields) -> None:
        self.servicer.ListImages(pb.ListImagesRequest(taste=TASTE, page_size=20, **fields), None)


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    made = [Home(tmp_path_factory.mktemp(str(count)), count) for count in (FEW, MANY)]
    yield made
    for home in made:
        home.rater.close()


CALLS = {
    "get taste": lambda home: home.servicer.GetTaste(pb.GetTasteRequest(name=TASTE), None),
    "record": lambda home: home.record(home.digests[5]),
    "record a new one": lambda home: home.record(home.digests[-2]),
    "record and undo": Home.record_and_undo,
    "compare and undo": Home.compare_and_undo,
    "list labels": Home.labels,
    "list labels in force": lambda home: home.labels(in_force=True),
    "list labels, deep": lambda home: home.labels(page_token="tastes/t/labels/150"),
    "list versions": lambda home: home.servicer.ListRaterVersions(pb.ListRaterVersionsRequest(taste=TASTE), None),
    "get image": lambda home: home.servicer.GetImage(pb.GetImageRequest(taste=TASTE, digest=home.digests[3]), None),
    "list images": Home.images,
    "list images, deep": lambda home: home.images(skip=100),
    "list images by digest": lambda home: home.images(order_by="digest desc"),
    "list images of a unit": lambda home: home.images(filter=pb.ImageFilter(units=["unit"])),
    "list graded images": lambda home: home.images(filter=pb.ImageFilter(grades=[5])),
    "list ungraded images": lambda home: home.images(filter=pb.ImageFilter(grades=[0])),
    "list images of a prompt": lambda home: home.images(filter=pb.ImageFilter(prompt_contains="PROMPT")),
    "list consents": lambda home: home.servicer.ListConsents(pb.ListConsentsRequest(taste=TASTE), None),
    "suggest": lambda home: home.servicer.SuggestImages(pb.SuggestImagesRequest(taste=TASTE, count=3), None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_a_call_costs_the_same_at_ten_times_the_labels(homes, name):
    few, many = (home.cost(CALLS[name]) for home in homes)
    assert 0 < many <= 1.5 * few + 50, f"{name}: {few} steps at {FEW} labels, {many} at {MANY}"


def test_the_steps_are_counted(homes):
    costs = [home.cost(lambda home: labels_of(home)) for home in homes]
    assert costs[1] > 8 * costs[0], "reading a whole log does grow: the count is a real one"


def labels_of(home: Home) -> None:
    with home.rater.workspace.reading() as connection:
        labels.read(connection, "t", 0, -1, in_force=False)
