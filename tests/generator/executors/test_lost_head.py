"""The head of the cluster dies while images are drawn: the service stays, says so, and goes on with a new head."""

import pytest

from konomi_generator.settings import GeneratorSettings
from tests.chassis.cluster.lost_head import free_port, kill_head, lines_until, own_process
from tests.chassis.cluster.ray_cluster import ADDRESS, ray_place

IMAGES = 400
"""More than two actors draw in the time that passes before the head is given up."""


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_a_service_outlives_the_head_and_goes_on_with_the_next_one(settings: GeneratorSettings) -> None:
    port = free_port()
    arguments = [str(settings.home), f"{ADDRESS}:{port}", str(settings.single_file_configs)]
    driver = ["tests.generator.executors.headless_driver", *arguments]
    with ray_place(2, gcs_server_port=port) as place, own_process(driver) as process:
        assert process.stdin is not None

        def ask() -> None:
            process.stdin.write(f"{IMAGES}\n")
            process.stdin.flush()

        lines_until(process.stdout, "ready")
        ask()
        before = lines_until(process.stdout, "made")
        kill_head(place)
        *during, refused = lines_until(process.stdout, "refused", "done")
        assert refused.startswith("refused CLUSTER_AWAY The head of the Ray cluster is away."), refused
        assert "what was made is kept" in refused and process.poll() is None
        made = {line.split()[1] for line in [*before, *during]}
        ask()
        assert lines_until(process.stdout, "refused", "done")[-1].startswith("refused CLUSTER_AWAY"), "not back yet"
        place.cluster.shutdown()
        with ray_place(2, gcs_server_port=port):
            ask()
            *after, done = lines_until(process.stdout, "refused", "done")
            assert done == "done" and len(after) == IMAGES
            assert {line.split()[1] for line in after if line.startswith("recalled")} >= made, "made no more"
            process.stdin.close()
            assert process.wait(120) == 0
