"""RaterService joined: every rpc stands in the part of its noun."""

from konomi.v1 import rater_pb2_grpc
from konomi_rater.servicer.audits import AuditServicer
from konomi_rater.servicer.consents import ConsentServicer
from konomi_rater.servicer.embedders import EmbedderServicer
from konomi_rater.servicer.images import ImageServicer
from konomi_rater.servicer.labels import LabelServicer
from konomi_rater.servicer.measures import MeasureServicer
from konomi_rater.servicer.populations import PopulationServicer
from konomi_rater.servicer.scores import ScoreServicer
from konomi_rater.servicer.selection import SelectionServicer
from konomi_rater.servicer.tastes import TasteServicer
from konomi_rater.servicer.versions import VersionServicer


class RaterServicer(
    TasteServicer,
    ImageServicer,
    LabelServicer,
    ScoreServicer,
    SelectionServicer,
    VersionServicer,
    EmbedderServicer,
    AuditServicer,
    ConsentServicer,
    MeasureServicer,
    PopulationServicer,
    rater_pb2_grpc.RaterServiceServicer,
):
    """Serves one rater. The parts know nothing of each other; the generated class, last, refuses what none serves."""
