"""The Immich server as konomi asks it: which addresses, which key, and what each refusal says to do."""

import pytest

from konomi.cli.images.immich.assets import AssetReader, Selection
from konomi.cli.images.immich.server import ImmichServer, ImmichSettings
from konomi.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    KonomiError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from konomi.host.hub_token import HubToken
from tests.plugins.immich.stand_in import KEY, READ, Immich, identity


@pytest.fixture
def immich():
    with Immich() as running:
        yield running


@pytest.fixture
def server(immich):
    return ImmichServer(immich.address, HubToken(KEY, "test"), 10.0)


@pytest.mark.parametrize(
    ("status", "kind", "reason", "words"),
    [
        (302, FailedPrecondition, "IMMICH_ELSEWHERE", "302 and leads elsewhere: set immich_url"),
        (401, Unauthenticated, "IMMICH_KEY_UNKNOWN", "(401: made to fail): make a new one"),
        (403, PermissionDenied, "IMMICH_KEY_DENIED", "(403: made to fail): give it that permission"),
        (404, NotFound, "IMMICH_GONE", "nothing at /albums (404: made to fail)"),
        (400, InvalidArgument, "IMMICH_REFUSED", "Immich refused /albums (400: made to fail)"),
        (429, ResourceExhausted, "IMMICH_BUSY", "asked too often (429)"),
        (500, Unavailable, "IMMICH_FAULT", "(500: made to fail); look at its log"),
    ],
)
def test_every_refusal_says_its_status_and_what_to_do(immich, server, status, kind, reason, words):
    immich.fail["/api/albums"] = status
    with pytest.raises(KonomiError) as refused:
        server.ask("GET", "/albums")
    assert type(refused.value) is kind and refused.value.reason == reason
    assert words in refused.value.message and KEY not in refused.value.message
    assert [path for _, path, _ in immich.asked] == ["/api/albums"], "nothing was followed"


def test_a_missing_permission_is_named(immich, server):
    immich.permissions = READ - {"asset.view"}
    immich.add(1, b"picture")
    with pytest.raises(PermissionDenied, match=r"Missing required permission: asset\.view"):
        server.bytes_of(f"/assets/{identity(1)}/thumbnail?size=preview")


def test_who_is_away_or_no_immich_is_told(immich):
    with pytest.raises(Unavailable, match=r"Immich does not answer at http://127\.0\.0\.1:9") as refused:
        ImmichServer("http://127.0.0.1:9", HubToken(KEY), 5.0).version()
    assert refused.value.reason == "IMMICH_AWAY"
    immich.answer = lambda *_: (200, b"<html>")
    with pytest.raises(DataLoss, match="is no Immich"):
        ImmichServer(immich.address, HubToken(KEY), 5.0).version()
    immich.answer = lambda *_: (200, {"assets": {}})
    with pytest.raises(DataLoss, match="is no Immich"):
        list(AssetReader(ImmichServer(immich.address, HubToken(KEY), 5.0)).read(Selection()))


@pytest.mark.parametrize("address", ["https://photos.example.org", "http://192.168.1.5:2283", "http://nas:2283/api/"])
def test_the_key_comes_from_a_file_of_its_owner_alone(tmp_path, monkeypatch, address):
    settings = ImmichSettings(home=tmp_path, immich_url=address)
    monkeypatch.delenv("IMMICH_API_KEY", raising=False)
    with pytest.raises(FailedPrecondition, match="there is no API key") as refused:
        ImmichServer.of(settings)
    assert refused.value.reason == "IMMICH_KEY"
    file = tmp_path / "tokens" / "immich.key"
    file.parent.mkdir()
    file.write_text(KEY)
    file.chmod(0o644)
    with pytest.raises(FailedPrecondition, match="chmod 600"):
        ImmichServer.of(settings)
    file.chmod(0o600)
    assert ImmichServer.of(settings).address == address.rstrip("/").removesuffix("/api")
    monkeypatch.setenv("IMMICH_API_KEY", "two words")
    with pytest.raises(FailedPrecondition, match="IMMICH_API_KEY was expected to hold one API key of Immich"):
        ImmichServer.of(settings)


def test_no_key_goes_over_the_open_network_in_plain_text(tmp_path, monkeypatch):
    monkeypatch.setenv("IMMICH_API_KEY", KEY)
    for address in ("http://photos.example.org", "http://8.8.8.8:2283", "http://127.example.org"):
        with pytest.raises(InvalidArgument, match="expected https"):
            ImmichServer.of(ImmichSettings(home=tmp_path, immich_url=address))
    with pytest.raises(FailedPrecondition, match="no Immich server is named"):
        ImmichServer.of(ImmichSettings(home=tmp_path))
    with pytest.raises(ValueError, match="immich_url"):
        ImmichSettings(home=tmp_path, immich_url="https://somebody@photos.example.org")


def test_pictures_are_read_page_by_page_and_the_rest_is_counted(immich, server):
    for number in range(1, 9):
        immich.add(number, b"%d" % number, rating=number % 3 or None, favourite=number % 2 == 0)
    immich.add(20, b"film", kind="VIDEO")
    immich.add(21, b"gone", trashed=True)
    immich.albums = {identity(100): ("Holiday", [identity(2), identity(3)]), identity(101): ("Two", [identity(3)])}
    reader = AssetReader(server)
    assets = list(reader.read(Selection()))
    assert [asset.id for asset in assets] == [identity(number) for number in range(1, 9)]
    assert [asset.rating for asset in assets[:3]] == [1, 2, None]
    assert reader.passed_over == {"video": 1, "away": 1}
    assert len([path for _, path, _ in immich.asked if path.endswith("/search/metadata")]) == 4
    both = list(AssetReader(server).read(Selection(["Holiday", identity(101)])))
    assert [asset.id for asset in both] == [identity(2), identity(3)]
    assert len(list(AssetReader(server).read(Selection(favourites=True)))) == 4
    assert len(list(AssetReader(server).read(Selection(limit=2)))) == 2
    with pytest.raises(NotFound, match="no album Winter"):
        list(AssetReader(server).read(Selection(["Winter"])))
