"""What `konomi doctor` says of what others can reach, and that its line puts it right."""

import stat
import subprocess

import pytest

from konomi.cli.doctor import exposure
from konomi.home import Home


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir(mode=0o700)
    return Home(tmp_path / "home")


def fixed(finding):
    subprocess.run(finding.fix, shell=True, check=True)  # noqa: S602 - the very line a person would paste


@pytest.mark.parametrize("name", ["tokens/owner.token", "tokens/page.secret", "run/page.key"])
def test_every_secret_is_looked_at_and_the_line_closes_it(home, name):
    assert exposure.secrets(home).state == "ok"
    for each in ("tokens/owner.token", name):
        path = home.root / each
        path.parent.mkdir(exist_ok=True)
        path.write_text("secret")
        path.chmod(0o600)
    (home.root / "tokens" / "tokens.lock").touch(mode=0o644)  # nothing is in a lock
    assert exposure.secrets(home).state == "ok"
    path.chmod(0o640)
    found = exposure.secrets(home)
    assert (found.state, found.detail) == ("fail", "others can read it (mode 640)")
    fixed(found)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert exposure.secrets(home).state == "ok"


def test_a_home_others_can_look_into(home):
    assert exposure.privacy(home).state == "ok"
    home.root.chmod(0o755)
    found = exposure.privacy(home)
    assert (found.state, "mode 755" in found.detail) == ("warn", True)
    fixed(found)
    assert exposure.privacy(home).state == "ok"
    assert exposure.privacy(Home(home.root / "none yet")).state == "ok"


def test_a_home_that_is_made_is_its_owners_alone(tmp_path):
    made = Home(tmp_path / "new" / "home")
    with made.held():
        assert exposure.privacy(made).state == "ok"


def test_the_page_and_whom_it_answers(home, tmp_path):
    def said(configuration):
        home.configuration.write_text(configuration)
        found = exposure.page(home)
        return found.state, found.detail, found.fix

    assert exposure.page(home).state == "ok"
    assert said('[page]\npage_host = "::1"\n')[0] == "ok"
    state, detail, fix = said('[page]\npage_host = "0.0.0.0"\n')
    assert (state, "0.0.0.0" in detail, "[page]" in fix) == ("fail", True, True)
    certificate, key = tmp_path / "page.pem", tmp_path / "page.key"
    wide = f'[page]\npage_host = "192.168.1.5"\npage_certificate = "{certificate}"\npage_key = "{key}"\n'
    assert said(wide)[:2] == ("fail", f"there is no file {certificate}")
    certificate.touch()
    key.write_text("secret")
    key.chmod(0o644)
    assert said(wide)[0] == "fail"
    assert "page.key" in said(wide)[2]
    fixed(exposure.page(home))
    state, detail, _ = said(wide)
    assert (state, "192.168.1.5" in detail) == ("warn", True)
    state, detail, fix = said("[page]\npage_hots = 1\n")
    assert (state, "page_hots" in detail, str(home.configuration) in fix) == ("fail", True, True)
    assert said("[page\n")[0] == "ok"  # the configuration's own check says it


def test_the_services_and_whom_they_answer(home):
    assert exposure.listening(home, {}).state == "ok"
    found = exposure.listening(home, {"KONOMI_HOST": "0.0.0.0"})
    assert (found.state, "KONOMI_HOST" in found.fix) == ("fail", True)
    home.configuration.write_text('[server]\nhost = "10.0.0.7"\ntls_certificate = "c.pem"\ntls_key = "k.pem"\n')
    assert exposure.listening(home, {}).state == "warn"
    assert exposure.listening(home, {"KONOMI_HOST": "127.0.0.2"}).state == "ok"
