"""The servicer's parts: each rpc of the contract stands in exactly one of them, and no part leans on another."""

from konomi.v1 import rater_pb2
from konomi.v1.rater_pb2_grpc import RaterServiceServicer
from konomi_rater.servicer.base import ServicerPart
from konomi_rater.servicer.rater import RaterServicer

PARTS = [part for part in RaterServicer.__bases__ if part is not RaterServiceServicer]


def test_every_rpc_stands_in_one_part():
    rpcs = [method.name for method in rater_pb2.DESCRIPTOR.services_by_name["RaterService"].methods]
    serving = {rpc: [part.__name__ for part in PARTS if rpc in vars(part)] for rpc in rpcs}
    assert not {rpc: parts for rpc, parts in serving.items() if len(parts) != 1}


def test_parts_inherit_the_base_alone():
    assert len(PARTS) > 5
    assert all(part.__bases__ == (ServicerPart,) for part in PARTS)
