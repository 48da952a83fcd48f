"""A head that went away is asked nothing, and who had asked it already waits no longer than until it is given up."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from konomi.errors import FailedPrecondition, Unavailable
from konomi_chassis.cluster.joining import Joining
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.settings import StoreSettings

pytestmark = pytest.mark.slow


class Head:
    """A real socket that listens as a head does, behind a stand-in for Ray that answers while it does."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.asked, self.killed, self.silent, self.left = 0, [], threading.Event(), threading.Event()
        self.nodes = lambda: [{"Alive": True, "NodeManagerAddress": "127.0.0.1"}]
        self.is_initialized, self.init, self.shutdown = lambda: False, lambda **_more: None, self.left.set
        self.get_runtime_context = lambda: SimpleNamespace(gcs_address=self.address)
        self.util = SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")
        self.kill = self.killed.append

    def cluster_resources(self) -> dict[str, float]:
        self.asked += 1
        if self.silent.is_set():
            self.left.wait(120)  # as Ray does where nobody answers any more
        return {"GPU": 3.0, "CPU": 8.0}


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    from konomi_chassis.cluster import connection

    head = Head()
    monkeypatch.setattr(connection, "ray", head)
    monkeypatch.setattr(connection, "_joining", Joining())
    yield head
    head.socket.close()
    head.left.set()


def test_what_the_cluster_had_is_remembered_while_its_head_is_away(head: Head, tmp_path: Path) -> None:
    from konomi_chassis.cluster.connection import ClusterConnection

    settings, store = ScaleSettings(home=tmp_path, address=head.address), StoreSettings(home=tmp_path)
    cluster = ClusterConnection(settings, store, head_seconds=3600.0)
    assert (cluster.gpus(), cluster.cores()) == (3, 8)
    cluster.end("a")
    asked = head.asked
    head.socket.close()
    assert (cluster.gpus(), cluster.cores(), head.asked) == (3, 8, asked)
    cluster.end("b")
    assert head.killed == ["a"], "nothing that Ray would ask of the next head for days"
    cluster.close()


def test_a_question_the_head_died_of_ends_in_words(head: Head, tmp_path: Path) -> None:
    from konomi_chassis.cluster.connection import ClusterConnection

    settings, store = ScaleSettings(home=tmp_path, address=head.address), StoreSettings(home=tmp_path)
    cluster = ClusterConnection(settings, store, head_seconds=0.1)
    head.silent.set()
    threading.Timer(0.5, head.socket.close).start()
    with cluster.in_use(), pytest.raises(Unavailable, match="The head of the Ray cluster is away") as caught:
        cluster.gpus()
    assert caught.value.reason == "CLUSTER_AWAY" and cluster.lost and head.left.is_set(), "and the cluster is left"
    with pytest.raises(Unavailable):
        cluster.cores()


def test_a_head_that_dies_while_it_is_joined_is_away_in_words(head: Head, tmp_path: Path) -> None:
    from konomi_chassis.cluster.connection import ClusterConnection

    settings, store = ScaleSettings(home=tmp_path, address=head.address), StoreSettings(home=tmp_path)
    head.init = lambda **_more: (head.socket.close(), head.left.wait(120))  # as Ray does, for days
    with pytest.raises(Unavailable, match="The head of the Ray cluster is away") as caught:
        ClusterConnection(settings, store, head_seconds=0.1)
    assert caught.value.reason == "CLUSTER_AWAY" and caught.value.retry_after == 60.0
    with pytest.raises(Unavailable, match="The head of the Ray cluster is away"):
        ClusterConnection(settings, store)  # the next try, while nobody listens
    never = settings.model_copy(update={"address": "127.0.0.1:1"})
    with pytest.raises(FailedPrecondition, match="There is no Ray cluster at") as missing:
        ClusterConnection(never, store)
    assert missing.value.reason == "CLUSTER_MISSING"
