"""The Helm chart: every object of it fits Kubernetes' schemas, its promises of security hold, its commands exist."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from konomi.errors import InvalidArgument
from tests.contract.deploy import chart
from tests.contract.deploy.commands import commands_of, wrong_command, wrong_setting

CHOICES = {
    "plain": {},
    "scores": {"scores__enabled": True, "telemetry": "http://collector.monitoring:4317"},
    "ray": {"ray__enabled": True, "home__storageClass": "fast"},
    "all": {"scores__enabled": True, "ray__enabled": True},
}
BUILT_IN = ("apps/v1", "v1", "policy/v1", "networking.k8s.io/v1")


@pytest.fixture(params=CHOICES)
def made(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The objects for some values."""
    return chart.objects(chart.values(**CHOICES[request.param]))


def pods(made: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields every pod's template, with its labels; those of a RayCluster too."""
    for one in made:
        spec = one["spec"]
        if "template" in spec:
            yield spec["template"]
        if one["kind"] == "RayCluster":
            yield spec["headGroupSpec"]["template"]
            yield from (group["template"] for group in spec["workerGroupSpecs"])


def containers(made: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for pod in pods(made):
        yield from pod["spec"].get("initContainers", ())
        yield from pod["spec"]["containers"]


@pytest.mark.slow
def test_every_object_fits_the_schema_of_its_kind(made):
    assert made
    for one in made:
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == chart.RELEASE
        if one["apiVersion"] in BUILT_IN:
            kubernetes_validate.validate(one, "1.37", strict=True)
        else:
            assert (one["apiVersion"], one["kind"]) == ("ray.io/v1", "RayCluster")
    for pod in pods(made):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {**pod["metadata"], "name": "p"}, "spec": pod["spec"]},
            "1.37",
            strict=True,
        )


def test_a_field_that_is_not_there_is_found():
    (one,) = [one for one in chart.objects(chart.values()) if one["kind"] == "StatefulSet"]
    one["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, "1.37", strict=True)


def test_no_pod_has_rights_it_does_not_need(made):
    for pod in pods(made):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert not any("hostPath" in volume for volume in spec["volumes"])
    for container in containers(made):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert "/tmp" in mounted


def test_what_is_not_named_is_denied_to_every_pod(made):
    policies = [one["spec"] for one in made if one["kind"] == "NetworkPolicy"]
    denying = [one for one in policies if not {"ingress", "egress"} & set(one)]
    (everything,) = denying
    assert sorted(everything["policyTypes"]) == ["Egress", "Ingress"]
    for pod in pods(made):
        assert everything["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    for policy in policies:
        for rule in policy.get("ingress", ()):
            assert rule["from"]  # an empty one lets everybody in


def test_every_volume_that_is_mounted_is_there_and_every_selector_finds_its_pod(made):
    labels = [pod["metadata"]["labels"] for pod in pods(made)]
    for pod in pods(made):
        names = {volume["name"] for volume in pod["spec"]["volumes"]} | {"home"}
        for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= names
    for one in made:
        selector = one["spec"].get("selector")
        if selector is not None:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= given.items() for given in labels), one["metadata"]["name"]


def test_secrets_are_referred_to_and_never_written_out(made):
    for container in containers(made):
        for variable in container.get("env", ()):
            if any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "SECRET_ACCESS")):
                assert "secretKeyRef" in variable["valueFrom"]
    assert not any(one["kind"] in ("Secret", "ConfigMap") for one in made)


@pytest.mark.slow
def test_every_command_and_every_setting_is_konomis(made):
    commands = settings = 0
    for container in containers(made):
        words = container.get("command", [])
        found = [container[name] for name in ("startupProbe", "readinessProbe") if name in container]
        probes = [probe["exec"]["command"] for probe in found if "exec" in probe]
        scripts = list(commands_of(words[2])) if words[:2] == ["/bin/sh", "-c"] else [words] if words else []
        for command in [*scripts, *probes]:
            assert wrong_command(command) == ""
            commands += 1
        for variable in container.get("env", ()):
            if variable["name"].startswith("KONOMI_"):
                assert wrong_setting(variable["name"], variable["value"]) == ""
                settings += 1
    assert commands and settings


def test_the_page_and_the_services_of_konomi_up_are_where_konomi_up_lets_them_be(made):
    (konomi,) = [one for one in containers(made) if one["name"] == "konomi"]
    given = {variable["name"]: variable.get("value") for variable in konomi["env"]}
    assert given["KONOMI_HOST"] == "127.0.0.1"  # the image says 0.0.0.0, which konomi up refuses
    assert given["KONOMI_PAGE_CERTIFICATE"] and given["KONOMI_PAGE_KEY"]


def test_a_ray_cluster_has_tokens_and_tls_everywhere_and_a_certificate_of_each_machine():
    made = chart.objects(chart.values(ray__enabled=True))
    drawing = [one for one in containers(made) if one["name"] in ("konomi", "ray-head", "ray-worker")]
    assert len(drawing) == 3
    for container in drawing:
        given = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert given["RAY_AUTH_MODE"] == "token"
        assert given["RAY_USE_TLS"] == "1"
        assert given["RAY_TLS_CA_CERT"] == "/ray-tls/ca.crt"
    (cluster,) = [one["spec"] for one in made if one["kind"] == "RayCluster"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert all(isinstance(value, str) for value in cluster["headGroupSpec"]["rayStartParams"].values())
    (group,) = cluster["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_the_certificate_of_a_machine_is_for_its_address(tmp_path):
    made = chart.objects(chart.values(ray__enabled=True))
    scripts = {one["command"][2] for one in containers(made) if one["name"] == "certificate"}
    (script,) = scripts
    for name in ("ray-tls", "ray-authority"):
        (tmp_path / name).mkdir()
        script = script.replace(f"/{name}/", f"{tmp_path / name}/")
    script = script.replace("/tmp/ray.", f"{tmp_path}/ray.")
    authority = tmp_path / "ray-authority"
    made_by = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=authority"
    files = ["-keyout", str(authority / "tls.key"), "-out", str(authority / "tls.crt")]
    subprocess.run([*made_by.split(), *files], check=True, capture_output=True)
    subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, env={**os.environ, "POD_IP": "10.1.2.3"})
    folder = tmp_path / "ray-tls"
    for check in (["-verify_ip", "10.1.2.3"], ["-verify_hostname", f"{chart.RELEASE}-ray-head-svc"]):
        done = ["openssl", "verify", "-CAfile", str(folder / "ca.crt"), *check, str(folder / "tls.crt")]
        assert subprocess.run(done, capture_output=True, text=True).returncode == 0


def test_what_the_renderer_does_not_know_it_refuses():
    with pytest.raises(ValueError, match="more than this renders"):
        chart.rendered("{{ range .Values.x }}", chart.values())
    with pytest.raises(ValueError, match="is in no values"):
        chart.rendered("{{ .Values.nothing }}", chart.values())


@pytest.mark.skipif(shutil.which("helm") is None, reason="needs the helm command")
@pytest.mark.parametrize("choice", CHOICES)
def test_helm_itself_renders_the_same(choice, tmp_path):
    given = chart.values(**CHOICES[choice])
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(given), "utf-8")
    command = ["helm", "template", chart.RELEASE, str(chart.CHART), "--namespace", chart.NAMESPACE]
    done = subprocess.run(
        [*command, "--values", str(tmp_path / "values.yaml")], capture_output=True, text=True, check=True
    )

    def by_name(made: list[dict[str, Any]]) -> dict[str, Any]:
        return {f"{one['kind']}/{one['metadata']['name']}": one for one in made}

    theirs = [one for one in yaml.safe_load_all(done.stdout) if one]
    assert by_name(theirs) == by_name(chart.objects(given))


def test_a_setting_that_is_none_or_wrong_is_named():
    assert wrong_setting("KONOMI_HOUSE", "x") == "KONOMI_HOUSE is no setting"
    with pytest.raises((ValueError, InvalidArgument)):
        wrong_setting("KONOMI_PORT", "many")
    assert wrong_command(["/x/python", "-m", "konomi_rater", "--readonly"]) == "konomi_rater refuses --readonly"
    assert wrong_command(["konomi", "upp"]) == "upp in konomi upp"
