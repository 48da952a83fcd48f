"""compose.yaml: it fits the specification, publishes the page alone, has files for secrets; what it names exists."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import botocore.session
import jsonschema
import pytest
import yaml

from tests.contract.deploy.commands import NO_SETTING, commands_of, wrong_command, wrong_setting
from tests.contract.source_tree import ROOT

FILES = ("compose.yaml", "compose.gpu.yaml")
DEPLOY = ROOT / "deploy"


def read(name: str = "compose.yaml") -> dict:
    """Returns a file as compose reads it, with the defaults of its variables."""
    text = (DEPLOY / name).read_text("utf-8")
    return yaml.safe_load(re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", text))


@pytest.mark.parametrize("name", FILES)
def test_it_fits_the_specification(name):
    schema = json.loads(
        (resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text("utf-8")
    )
    jsonschema.validate(read(name), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**read(name), "servicess": {}}, schema)


def test_only_the_page_is_published_and_the_rest_has_no_way_out():
    written = read()
    published = {name: service["ports"] for name, service in written["services"].items() if "ports" in service}
    assert published == {"konomi": ["50050:50050"]}
    assert written["networks"]["inside"]["internal"] is True
    others = [service for name, service in written["services"].items() if name != "konomi"]
    assert all(service["networks"] == ["inside"] for service in others)


def test_every_service_is_probed_and_starts_after_what_it_needs():
    services = read()["services"]
    assert set(services) == {"konomi", "scores", "postgres", "s3"}
    for service in services.values():
        assert service["healthcheck"]["test"][0] == "CMD"
        needs = service.get("depends_on", {})
        assert all(condition == {"condition": "service_healthy"} for condition in needs.values())
        assert set(needs) <= set(services)


def test_secrets_are_files_and_none_is_an_environment_variable():
    written = read()
    assert all(set(secret) == {"file"} for secret in written["secrets"].values())
    used = {name for service in written["services"].values() for name in service.get("secrets", ())}
    assert used == set(written["secrets"])
    for service in written["services"].values():
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("PASSWORD", "SECRET", "TOKEN", "KEY", "CREDENTIALS")):
                assert str(value).startswith("/run/secrets/"), name
                assert str(value).removeprefix("/run/secrets/") in service["secrets"]
    assert "secrets/" in (ROOT / ".gitignore").read_text("utf-8")


@pytest.mark.slow
def test_every_command_and_every_setting_is_konomis():
    services = read()["services"]
    for name in ("konomi", "scores"):
        shell, option, script = services[name]["command"]
        assert (shell, option) == ("/bin/sh", "-c")
        found = [words for words in commands_of(script) if wrong_command(words) == "" and "konomi" in " ".join(words)]
        assert found
        assert [wrong for words in commands_of(script) if (wrong := wrong_command(words))] == []
        for variable, value in services[name]["environment"].items():
            if variable.startswith("KONOMI_"):
                assert wrong_setting(variable, value) == ""
    assert wrong_command(services["scores"]["healthcheck"]["test"][1:]) == ""


def test_variables_of_the_file_are_no_settings_by_accident():
    names = set(re.findall(r"(?<!\$)\$\{(\w+):-", (DEPLOY / "compose.yaml").read_text("utf-8")))
    assert names <= NO_SETTING


@pytest.mark.slow
def test_the_s3_server_is_started_by_a_command_that_serves(tmp_path: Path):
    script = read()["services"]["s3"]["command"][0].replace("$$", "$")
    assert "exec rclone serve s3 /data --addr :9000" in script
    rclone = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    assert rclone is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = tmp_path / "key"
    key.write_text("one,two")
    script = script.replace("/run/secrets/s3_key", str(key)).replace("/data", str(tmp_path / "data"))
    script = script.replace("rclone serve", f"{rclone} serve").replace(":9000", f"127.0.0.1:{port}")
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline and server.poll() is None
                    time.sleep(0.1)
            assert (tmp_path / "data" / "konomi").is_dir()
            for secret, status in (("two", 200), ("other", 403)):  # the key of the file, and no other
                client = botocore.session.get_session().create_client(
                    "s3",
                    endpoint_url=f"http://127.0.0.1:{port}",
                    region_name="us-east-1",
                    aws_access_key_id="one",
                    aws_secret_access_key=secret,
                )
                try:
                    answer = client.list_objects_v2(Bucket="konomi")
                except botocore.exceptions.ClientError as error:
                    answer = error.response
                assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
        finally:
            server.kill()
