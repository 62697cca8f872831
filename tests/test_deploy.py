"""What is committed for deploying agrees with the program: settings, metrics, ports, rules."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.common.settings import CommandSettings
from service.api.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "grape.json"
WATCHING = (RULES, DEPLOY / "prometheus" / "alerts.test.yml", DASHBOARD)


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def variables() -> set[str]:
    """Of every setting of the server, uvicorn's own for proxies and the hub's token; inside the
    container the port and the folder of pictures are always the same.
    """
    names = {*Settings.model_fields} - {*CommandSettings.model_fields} - {"port", "pictures"}
    others = {"GRAPE_CONFIG", "GRAPE_MILVUS_TOKEN", "FORWARDED_ALLOW_IPS", "HF_TOKEN"}
    return {f"GRAPE_{name.upper()}" for name in names} | others


def test_compose_passes_every_setting_on(compose: dict[str, Any]) -> None:
    for service in ("grape", "grape-gpu"):
        assert set(compose["services"][service]["environment"]) == variables()


def test_a_training_is_set_by_its_file_alone(compose: dict[str, Any]) -> None:
    assert compose["services"]["train"]["environment"] == {}


@pytest.mark.parametrize(("service", "kind"), [("grape", "cpu"), ("grape-gpu", "gpu")])
def test_each_service_has_its_image(compose: dict[str, Any], service: str, kind: str) -> None:
    assert compose["services"][service]["image"] == f"grape:{kind}"
    assert compose["services"][service]["build"]["target"] == kind
    assert ("deploy" in compose["services"][service]) == (kind == "gpu")


def test_the_example_has_every_setting_and_variable_of_compose() -> None:
    example = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))
    substituted = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    fixed = {"GRAPE_HOST", "GRAPE_PUBLISHED_ON"}  # by compose, which GRAPE_BIND steers
    assert example == (variables() | substituted) - fixed


def test_nothing_is_published_beyond_loopback_unless_asked(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 4
    for port in ports:
        assert re.match(r"127\.0\.0\.1:|\$\{GRAPE_BIND:-127\.0\.0\.1\}:", port), port
    # The address that is published and the one that decides about keys are one variable.
    published = compose["services"]["grape"]["environment"]["GRAPE_PUBLISHED_ON"]
    assert published == "${GRAPE_BIND:-127.0.0.1}"


def test_containers_of_ours_are_confined(compose: dict[str, Any]) -> None:
    for name in ("grape", "grape-gpu", "train"):
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["stop_grace_period"] == "30s"
        assert not [volume for volume in service["volumes"] if "docker.sock" in volume]


def exposed() -> set[str]:
    """Every name that /metrics has, before anything was loaded or asked for."""
    app = create_app(Settings(llm="none"))
    text = app.state.service.metrics.exposition().decode()
    return set(re.findall(r"^# TYPE (\w+) ", text, re.M)) | set(re.findall(r"^(\w+)", text, re.M))


@pytest.mark.parametrize("file", WATCHING, ids=lambda path: path.name)
def test_every_metric_that_is_watched_exists(file: Path) -> None:
    named = set(re.findall(r"\bgrape_\w+", file.read_text()))
    assert named
    # A histogram without observations shows no buckets; its name is there.
    known = exposed() | {f"{name}_bucket" for name in exposed()}
    assert named <= known, named - known


def test_every_metric_is_on_the_dashboard() -> None:
    named = set(re.findall(r"\bgrape_\w+", DASHBOARD.read_text()))
    families = {re.sub(r"_(total|bucket|count|sum|created|info)$", "", name) for name in exposed()}
    shown = {re.sub(r"_(total|bucket|count|sum|info)$", "", name) for name in named}
    assert {name for name in families if name.startswith("grape_")} == shown


def test_the_dashboard_can_be_loaded() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/grape.yml").read_text())
    assert {panel["datasource"]["uid"] for panel in panels} == {sources["datasources"][0]["uid"]}


@pytest.mark.skipif(not shutil.which("promtool"), reason="Debian's package prometheus has promtool")
@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
    ],
    ids=lambda command: command[0],
)
def test_promtool_agrees(command: list[str]) -> None:
    done = subprocess.run(
        ["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_image_holds_what_is_packaged_and_no_secrets() -> None:
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert {"models", "service", "training", "grape.py", "requirements", "pyproject.toml"} <= kept
    assert not {name for name in kept if name.startswith(".")}


def test_the_profile_milvus_is_reached_from_the_other_containers_alone(
    compose: dict[str, Any],
) -> None:
    milvus = compose["services"]["milvus"]
    assert milvus["profiles"] == ["milvus"]
    assert "ports" not in milvus
    assert milvus["cap_drop"] == ["ALL"]
    kept = [volume.partition(":") for volume in milvus["volumes"]]
    assert [name for name, _, _ in kept] == ["milvus"]
    assert "milvus" in compose["volumes"]
    assert milvus["environment"]["ETCD_DATA_DIR"].startswith(kept[0][2])
    example = (ROOT / ".env.example").read_text()
    assert "milvus://milvus:19530/" in example  # the service's name, and Milvus's port


@pytest.mark.skipif(not shutil.which("nginx"), reason="Debian's package nginx-light has nginx")
def test_nginx_understands_its_configuration(tmp_path: Path) -> None:
    text = (DEPLOY / "nginx" / "grape.conf").read_text()
    text = re.sub(r"grape-\d:8000", "127.0.0.1:9", text).replace("8080", "127.0.0.1:8080")
    (tmp_path / "grape.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n"
        + "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy"))
        + f"access_log off;\ninclude {tmp_path}/grape.conf;\n}}\n"
    )
    command = ["nginx", "-t", "-e", "stderr", "-p", str(tmp_path), "-c", "nginx.conf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "syntax is ok" in done.stderr, done.stderr
