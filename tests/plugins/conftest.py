"""A live konomi with a fitted rater and its page, for the plug-ins to ask."""

from collections.abc import Iterator

import pytest

from konomi.client import Client, connect_home
from konomi.v1 import rater_pb2 as rater
from tests.client.web.site import TASTE, Site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A rater that was taught on forty pictures and knows eight more, behind the page."""
    live = Site(tmp_path_factory.mktemp("plugins"))
    live.start()
    try:
        live.fill(48)
        with connect_home(live.home.root) as client:
            _teach(client)
        yield live
    finally:
        live.stop()


def _teach(client: Client) -> None:
    images = client.rater.list_images(taste=TASTE, page_size=48, order_by="digest").images
    labels = [
        rater.Label(
            image_digest=image.digest,
            grade=rater.Grade.ValueType(1 + number % 5),
            reason=rater.SUGGESTION_REASON_RANDOM,
        )
        for number, image in enumerate(images[:40])
    ]
    client.rater.record_labels(taste=TASTE, labels=labels)
    for _ in client.rater.fit_rater(taste=TASTE):
        continue


@pytest.fixture
def token(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    """The home's token, found as a plug-in finds it."""
    monkeypatch.delenv("KONOMI_TOKEN", raising=False)
    monkeypatch.setenv("KONOMI_HOME", str(site.home.root))
    return site.home.token_file.read_text().strip()
