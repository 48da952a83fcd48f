"""Tokens and principals: made once, kept private, slowed when guessed, rotated without a restart."""

import json
import stat
import subprocess
import sys
import time

import pytest

from konomi.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from konomi_chassis.__main__ import main
from konomi_chassis.auth.authentication import (
    ANONYMOUS,
    CURRENT,
    Authenticator,
    Principal,
    ensure_owner_token,
    issue_token,
    peer_host,
    principal,
    read_tokens,
    require_taste,
    revoke_tokens,
    rotate_owner_token,
)

LOCAL, REMOTE = "ipv4:127.0.0.1:4242", "ipv4:192.0.2.7:4242"


def owner_token(home):
    return (home / "tokens" / "owner.token").read_text().strip()


def bearer(token):
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def authenticator(home):
    ensure_owner_token(home)
    return Authenticator(home)


def test_the_owner_token_is_made_once_and_kept_private(home):
    ensure_owner_token(home)
    token = owner_token(home)
    assert len(token) >= 43 and token not in (home / "tokens" / "tokens.json").read_text()
    for name in ("owner.token", "tokens.json"):
        assert stat.S_IMODE((home / "tokens" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "tokens").stat().st_mode) == 0o700
    ensure_owner_token(home)
    assert owner_token(home) == token


def test_servers_that_start_together_make_one_token(home):
    code = (
        "import sys; from pathlib import Path; from konomi_chassis.auth.authentication import *; "
        "ensure_owner_token(Path(sys.argv[1]))"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(home)]) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert len(json.loads((home / "tokens" / "tokens.json").read_text())["tokens"]) == 1
    assert Authenticator(home).authenticate(bearer(owner_token(home)), LOCAL) == Principal("owner", "owner")


def test_no_credentials_is_anonymous_and_wrong_ones_are_refused(authenticator):
    assert authenticator.authenticate({}, LOCAL) == ANONYMOUS
    for header in ("Bearer nonsense", "Bearer ", "Basic abc", "nonsense", ""):
        with pytest.raises(Unauthenticated):
            authenticator.authenticate({"authorization": header}, LOCAL)


def test_a_token_is_who_it_was_issued_to(authenticator, home):
    token = issue_token(home, "comfyui", "tool", "portraits")
    assert authenticator.authenticate(bearer(token), LOCAL) == Principal("comfyui", "tool", "portraits")
    assert authenticator.authenticate({"authorization": f"bearer  {token}"}, LOCAL).name == "comfyui"


def test_revoking_and_rotating_need_no_restart(authenticator, home):
    tool, old = issue_token(home, "comfyui", "tool", "a"), owner_token(home)
    assert authenticator.authenticate(bearer(tool), LOCAL).scope == "tool"
    assert revoke_tokens(home, "comfyui") == 1
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(bearer(tool), LOCAL)
    rotate_owner_token(home)
    assert owner_token(home) != old
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(bearer(old), LOCAL)
    assert authenticator.authenticate(bearer(owner_token(home)), LOCAL).scope == "owner"


@pytest.mark.parametrize(
    ("name", "scope", "taste"),
    [
        ("x", "admin", None),
        ("x", "tool", None),
        ("x", "labeller", None),
        ("x", "tool", "../a"),
        ("x", "owner", "a"),
        ("", "owner", None),
        ("a\nb", "owner", None),
    ],
)
def test_malformed_tokens_are_not_issued(home, name, scope, taste):
    with pytest.raises(InvalidArgument):
        issue_token(home, name, scope, taste)


def test_ten_failures_a_minute_from_one_address(home):
    now = [1000.0]
    ensure_owner_token(home)
    authenticator = Authenticator(home, clock=lambda: now[0])

    def guess(peer):
        authenticator.authenticate(bearer("guess"), peer)

    for _ in range(10):
        with pytest.raises(Unauthenticated):
            guess(REMOTE)
        now[0] += 1
    with pytest.raises(ResourceExhausted) as caught:
        guess(REMOTE)
    assert caught.value.reason == "AUTH_FAILURES" and caught.value.retry_after == pytest.approx(50)
    with pytest.raises(ResourceExhausted):
        authenticator.authenticate(bearer(owner_token(home)), REMOTE)
    assert authenticator.authenticate(bearer(owner_token(home)), "ipv4:192.0.2.8:1").scope == "owner"
    assert authenticator.authenticate({}, REMOTE) == ANONYMOUS
    now[0] += 51
    assert authenticator.authenticate(bearer(owner_token(home)), REMOTE).scope == "owner"


def test_on_loopback_a_guessing_program_does_not_lock_the_owner_out(authenticator, home):
    for _ in range(10):
        with pytest.raises(Unauthenticated):
            authenticator.authenticate(bearer("guess"), LOCAL)
    with pytest.raises(ResourceExhausted):
        authenticator.authenticate(bearer("guess"), LOCAL)
    assert authenticator.authenticate(bearer(owner_token(home)), LOCAL).scope == "owner"


def test_certificates_are_services(authenticator):
    assert authenticator.authenticate({}, REMOTE, "night@portraits") == Principal("night", "service", "portraits")
    assert authenticator.authenticate({}, REMOTE, "generator") == Principal("generator", "service", None)
    with pytest.raises(Unauthenticated):
        authenticator.authenticate(bearer("guess"), REMOTE, "night@portraits")


def test_a_damaged_token_file_says_so(authenticator, home):
    (home / "tokens" / "tokens.json").write_text("{")
    with pytest.raises(FailedPrecondition) as caught:
        authenticator.authenticate(bearer("x"), LOCAL)
    assert caught.value.reason == "TOKENS_DAMAGED"


def test_no_flipped_bit_lets_a_token_do_more(home):
    issue_token(home, "comfyui", "tool", "portraits", 2e9)
    path = home / "tokens" / "tokens.json"
    whole, before = path.read_bytes(), read_tokens(home)
    for place in range(len(whole) * 8):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        try:
            assert read_tokens(home) == before
        except FailedPrecondition as error:
            assert error.reason == "TOKENS_DAMAGED" and "issue the tokens of other people and tools again" in str(error)


def test_a_token_file_of_an_earlier_konomi_is_read_and_gets_a_checksum(home):
    issue_token(home, "comfyui", "tool", "portraits")
    path = home / "tokens" / "tokens.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert [record.principal for record in read_tokens(home)] == ["comfyui"]
    issue_token(home, "other", "tool", "portraits")
    assert "sha256" in json.loads(path.read_text())


@pytest.mark.parametrize(
    ("peer", "host"),
    [(LOCAL, "127.0.0.1"), ("ipv6:%5B::1%5D:50051", "::1"), ("ipv6:[2001:db8::1]:50051", "2001:db8::1"), ("unix:", "")],
)
def test_peers(peer, host):
    assert peer_host(peer) == host


def test_principal_is_there_inside_a_call_only():
    with pytest.raises(Internal):
        principal()
    CURRENT.set(Principal("comfyui", "tool", "a"))
    try:
        assert principal().name == "comfyui"
        require_taste("tastes/a")
        require_taste("a")
        with pytest.raises(PermissionDenied):
            require_taste("tastes/b")
    finally:
        CURRENT.set(None)


def test_the_command_line_issues_rotates_and_revokes(home, capsys):
    def run(*arguments):
        code = main([*arguments, "--home", str(home)], now=time.time())
        return code, capsys.readouterr()

    code, printed = run("issue", "--principal", "comfyui", "--scope", "tool", "--taste", "a", "--days", "1")
    assert code == 0 and len(printed.out.split()) == 1
    found = Authenticator(home).authenticate(bearer(printed.out.strip()), LOCAL)
    assert found == Principal("comfyui", "tool", "a")
    assert run("rotate")[0] == 0 and owner_token(home)
    code, printed = run("revoke", "--principal", "comfyui")
    assert code == 0 and "1 token" in printed.err
    code, printed = run("issue", "--principal", "comfyui", "--scope", "tool")
    assert code == 2 and "taste" in printed.err and printed.out == ""
