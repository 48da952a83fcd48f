"""The probe of an orchestrator: what it says of a service that serves, that does not, and of nobody; with TLS too."""

import pytest
import trustme

from konomi.errors import InvalidArgument, Unavailable
from konomi_chassis.__main__ import main
from konomi_chassis.rpc.health_probe import probe
from tests.chassis.conftest import Recorder


def test_a_service_that_serves_is_told_from_one_that_ends(serve):
    running = serve(Recorder())
    probe(running.address)
    assert main(["probe", "--address", running.address], 0.0) == 0
    running._end()
    with pytest.raises(Unavailable, match="says NOT_SERVING"):
        probe(running.address)


def test_nobody_is_told_with_the_address(capsys):
    assert main(["probe", "--address", "127.0.0.1:1"], 0.0) == 2
    assert "No konomi service answers at 127.0.0.1:1" in capsys.readouterr().err


def test_a_certificate_is_checked_under_the_name_that_is_given(serve, tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("scores")
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(chain)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    running = serve(Recorder(), tls_certificate=chain, tls_key=key)
    probe(running.address, tmp_path / "ca.pem", "scores")
    with pytest.raises(Unavailable):
        probe(running.address, tmp_path / "ca.pem", "other")
    with pytest.raises(Unavailable):
        probe(running.address)


def test_an_authority_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidArgument, match="cannot be read"):
        probe("127.0.0.1:1", tmp_path / "none.pem")
