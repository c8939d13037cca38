"""deploy/compose.yaml and deploy/kubernetes: what their own tools accept, with options that the program has."""
import importlib
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from deployment import DEPLOY, ROOT, containers, manifests, options_of, pods

from bench.lab import programs

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCUMENT = (ROOT / "docs" / "operations.md").read_text()
KUBERNETES = "1.32"  # the version whose schemas manifests are compared with


@pytest.fixture(scope="session")
def binary():
    return pathlib.Path(os.environ.get("CELSLM_BINARY") or programs.celslm())


def check_command(binary, arguments):
    """Of an invocation in a manifest: all options are the command's."""
    words = list(command_of(arguments))
    options = {word.split("=")[0] for word in arguments if word.startswith("--")}
    assert not options - options_of(binary, *words) - {"--config"}, arguments


def command_of(arguments):
    """The command that an invocation begins with: "edge", or "model get"."""
    for word in arguments[:2]:
        if not re.fullmatch("[a-z]+", word):
            return
        yield word


def check_variable(binary, name):
    """CELSLM_EDGE_MAX_USERS is --max-users of `celslm edge`."""
    if name in ("CELSLM_CACHE", "CELSLM_CONFIG"):
        return
    command, _, option = name.removeprefix("CELSLM_").lower().partition("_")
    assert "--" + option.replace("_", "-") in options_of(binary, command), name


def check_configuration(binary, path):
    for command, options in tomllib.loads(path.read_text()).items():
        assert not {f"--{key}" for key in options} - options_of(binary, command), path


def test_compose_is_what_docker_takes():
    done = subprocess.run(["docker-compose", "-f", DEPLOY / "compose.yaml", "--profile", "*", "config", "--quiet"],
                          env={**os.environ, "MODEL": "m.gguf", "MODELS": "/models", "HOME": "/"}, capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_compose_uses_options_that_there_are(binary):
    used = [service for service in COMPOSE["services"].values() if service["image"] == "celslm"]
    assert len(used) == 2
    for service in used:
        check_command(binary, service["command"])
        for name in service["environment"]:
            check_variable(binary, name)


def test_compose_mounts_files_that_there_are():
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (DEPLOY / volume.split(":")[0]).exists(), volume


def test_kubernetes_uses_options_that_there_are(binary):
    ours = [container for _, container in containers() if container["image"] == "celslm" and "args" in container]
    assert len(ours) == 4
    for container in ours:
        check_command(binary, container["args"])
        for variable in container.get("env", []):
            if variable["name"].startswith("CELSLM_"):
                check_variable(binary, variable["name"])
    check_configuration(binary, DEPLOY / "kubernetes" / "celslm.toml")


def test_the_packages_configuration_has_options_that_there_are(binary, tmp_path):
    text = (DEPLOY / "systemd" / "celslm.toml").read_text()
    uncommented = tmp_path / "celslm.toml"
    uncommented.write_text(re.sub(r"^# (\S+ = )", r"\1", text, flags=re.MULTILINE))
    check_configuration(binary, uncommented)
    assert uncommented.read_text() != text


def test_kubectl_makes_one_list_of_the_manifests():
    done = subprocess.run(["kubectl", "kustomize", DEPLOY / "kubernetes"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    assert {document["kind"] for document in made} >= {"Deployment", "DaemonSet", "Service", "ConfigMap", "NetworkPolicy"}
    assert "registry.example/celslm:" in done.stdout
    assert all(document["metadata"].get("namespace", "celslm") == "celslm" for document in made)


@pytest.mark.pip
def test_kubernetes_schemas_fit_the_manifests():
    packages = ROOT / "build" / f"deploy-packages-{sys.implementation.cache_tag}"
    if not packages.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", packages, "kubernetes-validate"],
                       check=True)
    sys.path.append(str(packages))
    validate = importlib.import_module("kubernetes_validate").validate
    for _, document in manifests():
        validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("name, container", list(containers()),
                         ids=lambda value: value if isinstance(value, str) else value["name"])
def test_a_container_is_confined(name, container):
    allowed = container["securityContext"]
    assert allowed["allowPrivilegeEscalation"] is False
    assert allowed["readOnlyRootFilesystem"] is True
    assert allowed["capabilities"]["drop"] == ["ALL"]
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"]["cpu"]
    if allowed.get("runAsUser") == 0:  # makes the folder of a node its user's, and ends
        assert container["name"] == "folder" and allowed["capabilities"]["add"] == ["CHOWN"]


@pytest.mark.parametrize("name, pod", list(pods()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_pod_is_not_root_and_is_probed(name, pod):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert {"readinessProbe", "livenessProbe"} <= set(container)
        if container["image"] == "celslm":
            assert container["readinessProbe"]["httpGet"]["path"] == "/health"
            assert container["livenessProbe"]["httpGet"]["path"] == "/health"


def test_what_is_mounted_is_there():
    """Volumes of a pod, paths in the configuration below one of them, keys of secrets that the document makes."""
    for name, pod in pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod.get("initContainers", []) + pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= set(volumes), name
        for volume in volumes.values():
            secret = volume.get("secret", {})
            made = re.search(rf"create secret generic {secret['secretName']} (.*)", DOCUMENT) if secret else None
            for item in secret.get("items", []):
                assert f"--from-file={item['key']}" in made[1]
            assert made or not secret


def test_files_in_the_configuration_are_mounted():
    configuration = tomllib.loads((DEPLOY / "kubernetes" / "celslm.toml").read_text())
    for name, pod in pods():
        for container in pod["containers"]:
            section = configuration.get(container["name"], {})
            mounted = {mount["mountPath"]: next(v for v in pod["volumes"] if v["name"] == mount["name"])
                       for mount in container["volumeMounts"]}
            for option, value in section.items():
                if not str(value).startswith("/etc/"):
                    continue
                folder, file = value.rsplit("/", 1)
                assert folder in mounted, f"{name}: {option}"
                items = mounted[folder].get("secret", {}).get("items")
                assert items is None or file in [item["path"] for item in items], f"{name}: {option}"


def test_the_images_user_owns_its_folder():
    dockerfile = (ROOT / "Dockerfile").read_text()
    user = re.search(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)
    assert f"-o {user[1]} -g {user[2]} /var/lib/celslm" in dockerfile
    for _, pod in pods():
        if any(container["image"] == "celslm" for container in pod["containers"]):
            assert pod["securityContext"]["runAsUser"] == int(user[1])
