"""Every rpc of the contract is served by a method somebody wrote: a missing one fails here, not at its first call."""

from importlib import import_module

import pytest

from konomi.v1 import artifact_pb2, generator_pb2, rater_pb2, trainer_pb2

RPCS = {
    service.full_name: {method.name for method in service.methods}
    for module in (artifact_pb2, generator_pb2, rater_pb2, trainer_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
}
SERVED = {
    "konomi.v1.ArtifactService": ("konomi_chassis.storage.artifact_servicer:ArtifactServicer",),
    "konomi.v1.GeneratorService": ("konomi_generator.servicer:GeneratorServicer",),
    "konomi.v1.RaterService": ("konomi_rater.servicer.rater:RaterServicer",),
    "konomi.v1.TrainerService": (
        "konomi_trainer.servicer.listing:ListingRpcs",
        "konomi_trainer.servicer.trainer:TrainerServicer",
    ),
}
"""The classes that serve each service; of a servicer that is made late the first is what need not wait for it."""


def written(path: str) -> set[str]:
    """Returns the names of the methods a class and its bases have, without the stubs that were generated."""
    module, _, name = path.partition(":")
    parts = [part for part in getattr(import_module(module), name).__mro__ if not part.__module__.endswith("_pb2_grpc")]
    return {method for part in parts for method, value in vars(part).items() if callable(value)}


def test_every_service_of_the_contract_is_looked_at():
    assert RPCS.keys() == SERVED.keys() and all(RPCS.values())


@pytest.mark.slow
@pytest.mark.parametrize("service", sorted(SERVED))
def test_every_rpc_has_a_method(service):
    found = set().union(*(written(path) for path in SERVED[service]))
    assert not RPCS[service] - found
    stray = {name for name in found if name[:1].isupper()} - RPCS[service]
    assert not stray, "no method is left of an rpc that was renamed"
