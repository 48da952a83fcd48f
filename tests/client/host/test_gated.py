"""Models whose terms have to be accepted: a token is sent to the hub alone, said nowhere, and missed in words."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from konomi.cli import commands
from konomi.cli.models import fetch
from konomi.errors import FailedPrecondition, KonomiError, NotFound, PermissionDenied
from konomi.host.hub import FetchSettings
from konomi.host.hub_models import APACHE, DOWNLOADS, GATED_BASES
from konomi.host.hub_token import HubToken, read_token
from tests.client.cli.hub import Hub
from tests.client.cli.test_fetch import DATA, REVISION, bring, model

SECRET = "hf_anIgmaOfTwentyLetters"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


def kept(home: Path, secret: str = SECRET, rights: int = 0o600) -> Path:
    file = home / "tokens" / "hub.token"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{secret}\n")
    file.chmod(rights)
    return file


def gated(**more: object) -> Hub:
    return Hub({"model.safetensors": DATA}, gated=SECRET, **more)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_gated_model_comes_with_a_token(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if source == "file":
        kept(tmp_path)
    else:
        monkeypatch.setenv("HF_TOKEN", f" {SECRET}\n")
        kept(tmp_path, "hf_anotherTokenThatIsNotAsked")
    with gated(commit=REVISION).running() as hub:
        result = bring(hub, tmp_path, replace(model(), revision=""))
    assert (tmp_path / "models" / "toy.safetensors").read_bytes() == DATA and result["files"][0]["fetched"]
    assert set(hub.tokens) == {f"Bearer {SECRET}"}
    assert not [
        path for path in (tmp_path / "models").rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


def test_without_a_token_the_error_says_where_the_terms_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetch, "DOWNLOADS", (model(),))
    with gated().running() as hub:
        monkeypatch.setenv("KONOMI_HUB", hub.address)
        assert commands.run(["models", "fetch", "toy", "--home", str(tmp_path)]) == 4
    said = capsys.readouterr().err
    assert (
        f"accept them at {hub.address}/some/body, make a token that may read at {hub.address}/settings/tokens" in said
    )
    assert "set HF_TOKEN to it, or write it into tokens/hub.token of the home with chmod 600" in said
    assert hub.tokens == [""]


def test_an_account_that_has_not_accepted_is_told_so_and_its_token_is_not_said(tmp_path: Path) -> None:
    file = kept(tmp_path, "hf_theWrongAccountsToken")
    with gated().running() as hub, pytest.raises(PermissionDenied) as caught:
        bring(hub, tmp_path, model())
    assert caught.value.reason == "HUB_GATED"
    assert f"the token from {file} has not: read and accept them at {hub.address}/some/body" in caught.value.message
    assert "hf_theWrong" not in caught.value.message


def test_a_token_never_follows_a_redirect_to_another_host(tmp_path: Path) -> None:
    kept(tmp_path)
    with Hub({"model.safetensors": DATA}).running() as elsewhere:
        location = f"{elsewhere.address}/blobs/model.safetensors"
        hub = gated(location=location)
        with hub.running():
            bring(hub, tmp_path, model())
    assert (tmp_path / "models" / "toy.safetensors").read_bytes() == DATA
    assert set(hub.tokens) == {f"Bearer {SECRET}"} and elsewhere.tokens and set(elsewhere.tokens) == {""}


@pytest.mark.slow
def test_a_token_is_never_logged_or_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fetch, "DOWNLOADS", (model(),))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    caplog.set_level(logging.DEBUG)
    for data in ({"model.safetensors": DATA}, {}):
        with Hub(data, gated=SECRET).running() as hub:
            monkeypatch.setenv("KONOMI_HUB", hub.address)
            commands.run(["models", "fetch", "toy", "--home", str(tmp_path / str(len(data)))])
    shown = capfd.readouterr()
    assert "toy is there" in shown.out and "is not there" in shown.err
    assert SECRET not in shown.out + shown.err + caplog.text
    assert SECRET not in repr(HubToken(SECRET, "HF_TOKEN"))


@pytest.mark.slow
@pytest.mark.parametrize("rights", [0o640, 0o604, 0o666])
def test_a_file_that_others_can_read_is_refused(rights: int, tmp_path: Path) -> None:
    file = kept(tmp_path, rights=rights)
    with gated().running() as hub, pytest.raises(FailedPrecondition, match=r"others can read it.*chmod 600") as caught:
        bring(hub, tmp_path, model())
    assert caught.value.reason == "TOKEN_RIGHTS" and str(file) in caught.value.message and not hub.asked


@pytest.mark.slow
@pytest.mark.parametrize(
    "held", ["", "short", "hf_two tokens_of_them", "hf_header\r\nX-Injected: yes", "hf_" + "é" * 20]
)
def test_what_is_no_token_is_refused_before_anything_is_asked(held: str, tmp_path: Path) -> None:
    kept(tmp_path, held)
    with (
        gated().running() as hub,
        pytest.raises(FailedPrecondition, match="one token of the hub and nothing else") as caught,
    ):
        bring(hub, tmp_path, model())
    assert caught.value.reason == "TOKEN_FORM" and not hub.asked


def test_another_file_may_be_named_and_a_missing_one_is_no_token(tmp_path: Path) -> None:
    other = kept(tmp_path / "elsewhere")
    settings = FetchSettings(home=tmp_path, hub_token_file=other)
    assert read_token(settings.token_file()) == HubToken(SECRET, str(other))
    assert read_token(FetchSettings(home=tmp_path).token_file()) == HubToken()
    with Hub({}).running() as hub, pytest.raises(NotFound):
        bring(hub, tmp_path, model())


def test_the_gated_bases_of_the_list_say_their_licence_and_what_it_forbids() -> None:
    assert set(GATED_BASES) <= set(DOWNLOADS)
    for wanted in GATED_BASES:
        assert (wanted.licence == APACHE) is not bool(wanted.bound) and wanted.folder == wanted.name
        assert isinstance(fetch.find(wanted.name), type(wanted))
    with pytest.raises(KonomiError):
        fetch.find("no such")
