"""Reading training runs and models: answered from the tables alone, so nobody waits for torch to be loaded."""

import grpc
import sqlalchemy

from konomi.errors import NotFound
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.rpc.pagination import page
from konomi_chassis.storage.database import reading
from konomi_trainer.jobs.progress_board import ProgressBoard
from konomi_trainer.servicer import messages
from konomi_trainer.storage import models, runs


class ListingRpcs:
    """Lists and returns training runs and models."""

    def __init__(self, engine: sqlalchemy.Engine, board: ProgressBoard) -> None:
        """Takes the database, and where the worker writes what it does."""
        self._engine, self._board = engine, board

    def GetTrainingRun(self, request: pb.GetTrainingRunRequest, context: grpc.ServicerContext) -> pb.TrainingRun:
        """Returns a run."""
        return self._run_message(request.name)

    def ListTrainingRuns(
        self, request: pb.ListTrainingRunsRequest, context: grpc.ServicerContext
    ) -> pb.ListTrainingRunsResponse:
        """Lists runs, newest first."""
        with reading(self._engine) as connection:
            listed = page(
                request.page_size,
                lambda count: runs.page(connection, messages.before(request.page_token), count),
                lambda run: messages.token(run.sequence),
            )
        return pb.ListTrainingRunsResponse(
            training_runs=[messages.training_run(run, self._board.read(run.id)) for run in listed.rows],
            next_page_token=listed.next_token,
        )

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:
        """Lists models, newest first."""
        with reading(self._engine) as connection:
            listed = page(
                request.page_size,
                lambda count: models.page(connection, request.taste, messages.before(request.page_token), count),
                lambda row: messages.token(row.sequence),
            )
        return pb.ListModelsResponse(
            models=[messages.model(row) for row in listed.rows], next_page_token=listed.next_token
        )

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.Model:
        """Returns a model with its lineage."""
        with reading(self._engine) as connection:
            return messages.model(model_named(connection, request.name))

    def taste_of(self, name: str) -> str | None:
        """Returns the taste of "trainingRuns/{run}" or "models/{model}", or None when there is no such thing."""
        kind, _, part = name.partition("/")
        with reading(self._engine) as connection:
            row = runs.get(connection, part) if kind == "trainingRuns" else models.get(connection, part)
        return row.taste if row is not None else None

    def _run_message(self, name: str) -> pb.TrainingRun:
        part = name.removeprefix("trainingRuns/")
        live = self._board.read(part)
        with reading(self._engine) as connection:
            return messages.training_run(run_named(connection, part), live, runs.published(connection, part))


def run_named(connection: sqlalchemy.Connection, name: str) -> runs.Run:
    """Returns the run of an id; raises NotFound(RUN_NOT_FOUND)."""
    run = runs.get(connection, name)
    if run is None:
        raise NotFound(f"There is no training run {name}; list them to see which there are.", reason="RUN_NOT_FOUND")
    return run


def model_named(connection: sqlalchemy.Connection, name: str) -> models.ModelRow:
    """Returns the model of an id or a name; raises NotFound(MODEL_NOT_FOUND)."""
    model = models.get(connection, name.removeprefix("models/"))
    if model is None:
        raise NotFound(f"There is no {name}; list the models to see which there are.", reason="MODEL_NOT_FOUND")
    return model
