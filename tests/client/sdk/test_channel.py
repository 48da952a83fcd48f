"""Opening channels: addresses, where the token comes from and where it may go, proxies, TLS."""

import os
import urllib.request

import grpc
import pytest
import requests
import trustme

from konomi.client import connect
from konomi.client.channel import Tls, find_token, is_loopback, open_link
from konomi.errors import InvalidArgument, NotFound, Unauthenticated, Unavailable
from konomi.settings import bypass_proxies_on_loopback
from konomi.v1 import rater_pb2, rater_pb2_grpc
from tests.client.counting_proxy import CountingProxy
from tests.client.stand_in import StandIn


@pytest.fixture
def guarded(tmp_path):
    server = StandIn(tmp_path / "artifacts", token="right")
    yield server
    server.server.stop(None).wait()


def owner_token(home, token):
    path = home / "tokens" / "owner.token"
    path.parent.mkdir(parents=True)
    path.write_text(token + "\n")


def test_token_of_the_argument_the_environment_and_the_home(guarded, tmp_path, monkeypatch):
    def ask(**options):
        with connect(guarded.address, home=tmp_path / "home", **options) as client:
            client.rater.list_tastes()
            client.generator.list_base_models()

    with pytest.raises(Unauthenticated) as caught:
        ask()
    assert caught.value.reason == "BAD_TOKEN"
    owner_token(tmp_path / "home", "right")
    ask()
    monkeypatch.setenv("KONOMI_TOKEN", "wrong")
    with pytest.raises(Unauthenticated):
        ask()
    ask(token="right")
    monkeypatch.setenv("KONOMI_TOKEN", "right")
    ask()


def test_streams_carry_the_token(guarded):
    with connect(guarded.address, token="wrong") as client:
        with pytest.raises(Unauthenticated):
            client.artifacts.get("0" * 64)
        with pytest.raises(Unauthenticated):
            client.artifacts.put(b"x", "text/plain")
        with pytest.raises(Unauthenticated):
            list(client.rater.add_images([]))


def test_the_homes_token_stays_on_this_machine(tmp_path):
    owner_token(tmp_path, "secret")
    link = open_link("https://rater.example:443", home=tmp_path)
    assert link.metadata == ()
    assert open_link("127.0.0.1:50051", home=tmp_path).metadata == (("authorization", "Bearer secret"),)


def test_a_token_never_travels_in_the_clear(tmp_path):
    with pytest.raises(InvalidArgument, match=r"https://rater\.example:50051") as caught:
        open_link("rater.example:50051", token="secret")
    assert "secret" not in str(caught.value)
    open_link("rater.example:50051")


@pytest.mark.parametrize("token", ["two words", "kürbis", "tab\there"])
def test_malformed_tokens_are_not_shown(token, tmp_path):
    with pytest.raises(InvalidArgument) as caught:
        find_token(token, None)
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["", "localhost", ":50051", "host:port", "host:0", "host:70000", "http://h:1", "a/b:1"]
)
def test_bad_addresses(address):
    with pytest.raises(InvalidArgument, match="expected HOST:PORT"):
        open_link(address)


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.8.9.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("unix:/run/x", True),
        ("0.0.0.0:1", False),
        ("192.168.1.1:1", False),
        ("localhost.evil.example:1", False),
    ],
)
def test_loopback(target, local):
    assert is_loopback(target) is local


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def encrypted(tmp_path, authority):
    issued = authority.issue_cert("localhost")
    pair = (issued.private_key_pem.bytes(), b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    root = authority.cert_pem.bytes()
    credentials = grpc.ssl_server_credentials([pair], root_certificates=root, require_client_auth=True)
    server = StandIn(tmp_path / "artifacts", token="right", credentials=credentials)
    yield server
    server.server.stop(None).wait()


@pytest.mark.slow
def test_mutual_tls(encrypted, authority, tmp_path):
    ca, certificate, key = tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key"
    authority.cert_pem.write_to_path(ca)
    mine = authority.issue_cert("client")
    key.write_bytes(mine.private_key_pem.bytes())
    certificate.write_bytes(b"".join(pem.bytes() for pem in mine.cert_chain_pems))
    with connect(f"https://{encrypted.address}", token="right", tls=Tls(ca, certificate, key)) as client:
        client.rater.list_tastes()
    stranger = connect(f"https://{encrypted.address}", token="right", tls=Tls(ca))
    with stranger, pytest.raises(Unavailable, match="client certificate"):
        stranger.rater.list_tastes(timeout=5.0)
    with connect(encrypted.address, token="right") as plain, pytest.raises(Unavailable, match="TLS"):
        plain.rater.list_tastes(timeout=5.0)


def test_certificates_that_are_not_there(tmp_path):
    with pytest.raises(NotFound, match="PEM file"):
        open_link("https://h:1", tls=Tls(ca=tmp_path / "none.pem"))
    with pytest.raises(InvalidArgument, match="together with its key"):
        open_link("https://h:1", tls=Tls(certificate=tmp_path / "c.pem"))


@pytest.fixture
def proxy(monkeypatch):
    with CountingProxy(monkeypatch) as counting:
        yield counting


def test_what_is_on_this_machine_is_never_asked_through_a_proxy(proxy, guarded):
    with connect(guarded.address, token="right") as client:
        client.rater.list_tastes()
    assert proxy.asked == []


@pytest.mark.slow
def test_another_machine_is_still_asked_through_the_proxy(proxy):
    with connect("https://rater.example:443") as client, pytest.raises(Unavailable):
        client.rater.list_tastes(timeout=2.0)
    assert proxy.asked[0] == b"CONNECT rater.example:443 HTTP/1.1"


def test_every_library_of_a_process_leaves_loopback_alone(proxy, guarded, monkeypatch):
    monkeypatch.setenv("no_proxy", "intranet.example")
    assert urllib.request.proxy_bypass_environment("127.0.0.1:1") is not True
    bypass_proxies_on_loopback(os.environ)
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intranet.example,localhost,127.0.0.0/8,127.0.0.1,::1"
    assert urllib.request.proxy_bypass_environment("127.0.0.1:1")
    assert requests.utils.should_bypass_proxies("http://127.0.0.1:1/", no_proxy=None)
    stub = rater_pb2_grpc.RaterServiceStub(grpc.insecure_channel(guarded.address))  # as another library would
    stub.ListTastes(rater_pb2.ListTastesRequest(), metadata=(("authorization", "Bearer right"),))
    assert proxy.asked == []
