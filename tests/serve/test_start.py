"""deploy/start/serve.sh, which the container starts with: the champion of an MLflow, the log in a PostgreSQL."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import yaml
from mlflow import MlflowClient

from tests.conftest import ROOT
from tests.serve.conftest import StartIn
from tests.serve.process import Service
from tests.services import mlflow_server, postgres

SERVICE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["serve"]


def well(service: Service) -> bool:
    """What the container is asked, asked of the process."""
    kind, command = SERVICE["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    environment = {"SERVE_PORT": str(service.port), "PATH": os.environ["PATH"]}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True)
    return done.returncode == 0


@pytest.mark.slow
def test_the_start_script(bundle: Path, house: Path, tmp_path: Path, start_in: StartIn) -> None:
    with postgres(tmp_path / "database") as database, mlflow_server(tmp_path / "mlflow") as mlflow:
        given = {
            "SERVE_FOLDER": str(house),
            "SERVE_CHAMPION": mlflow.uri,
            "STACK_ADDRESS": "127.0.0.1",
            "SERVE_API_KEYS": "",
            "SERVE_WORKERS": "2",
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(database.port),
            "POSTGRES_USER": "postgres",
            "POSTGRES_PASSWORD": "unused",
            "POSTGRES_DB": "postgres",
        }
        assert set(given) | {"SERVE_PORT"} == set(SERVICE["environment"])
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        service = start_in(
            house,
            command=["sh", "-c", f'SERVE_PORT=$BENTOML_PORT exec sh "{ROOT}/deploy/start/serve.sh"'],
            variables=given | {"PATH": path},
            poll_s=0.2,
        ).wait_until_alive()
        assert not well(service), "it has no champion yet"

        client, name = MlflowClient(mlflow.uri), f"run-{uuid4().hex}"
        run_id = client.create_run("0", run_name=name).info.run_id
        client.log_artifacts(run_id, str(bundle), "bundle")
        client.create_registered_model("rakuten")
        source = f"{client.get_run(run_id).info.artifact_uri}/bundle"
        client.create_model_version("rakuten", source, run_id)
        client.set_registered_model_alias("rakuten", "champion", "1")
        service.wait(lambda: well(service))
        with service.client() as asking:
            answers: list[Any] = []

            def is_answered() -> bool:  # one of the two workers is ready before the other
                response = asking.post("/predict", json={"designation": "Piscine"})
                assert response.status_code in (200, 503), response.text
                answers.extend([response.json()] if response.status_code == 200 else [])
                return bool(answers)

            service.wait(is_answered)
        [answer] = answers
        assert answer["model_version"] == "1"
        assert service.terminate() == 0
        with psycopg.connect(database.url.replace("+psycopg", "")) as connection:
            rows = connection.execute(
                "select prediction_id, model_version from rakuten_predictions"
            ).fetchall()
        assert rows == [(answer["prediction_id"], "1")]
        assert "unused" not in service.said


def test_torch_is_told_to_wait_idly_before_it_is_loaded() -> None:
    code = (
        "import os, sys, rakuten.serve.service; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["PASSIVE", "False"]
