"""`make stack`: what deploy/compose.yaml runs in containers, as processes of this machine.

Looks first for all that would stop them, then honcho starts them, shows what they say, and ends all of them on Ctrl-C or
when one ends. Their data lies below outputs/stack/.
"""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from honcho.environ import parse_procfile

from deploy import settings
from rakuten.errors import ConfigError, RakutenError

DEPLOY = Path(__file__).resolve().parent
DATA = Path("outputs/stack")
PORTS = {
    "postgres": "POSTGRES_PORT",
    "s3": "S3_PORT",
    "mlflow": "MLFLOW_PORT",
    "serve": "SERVE_PORT",
    "prometheus": "PROMETHEUS_PORT",
    "alertmanager": "ALERTMANAGER_PORT",
}
PROFILES = {
    "s3": "dev-s3",
    "serve": "serve",
    "prometheus": "watch",
    "alertmanager": "watch",
    "grafana": "watch",
}
PROGRAMS = {
    "postgres": dict.fromkeys(("initdb", "postgres"), "apt-get install postgresql"),
    "s3": {"rclone": "it is in requirements.lock: make -B .venv/.ready"},
    "mlflow": {"mlflow": "it is in requirements.lock: make -B .venv/.ready"},
    "serve": {"bentoml": "it is in requirements.lock: make -B .venv/.ready"},
    "prometheus": {"prometheus": "apt-get install prometheus"},
    "alertmanager": {"prometheus-alertmanager": "apt-get install prometheus-alertmanager"},
}


def processes() -> list[str]:
    names = parse_procfile((DEPLOY / "Procfile").read_text(encoding="utf-8")).processes
    return [name for name in names if name not in PROFILES or settings.has(PROFILES[name])]


def search_path() -> str:
    """Ours first; last where Debian keeps what it leaves off the PATH, newest first."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: float(found.parent.name), reverse=True
    )
    return os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), *map(str, debian)]
    )


def missing_programs(name: str) -> Iterator[str]:
    for program, cure in PROGRAMS[name].items():
        if shutil.which(program) is None:
            yield f"{program} is missing: {cure}"


def taken_port(name: str) -> Iterator[str]:
    variable = PORTS[name]
    with socket.socket() as knock:
        knock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the last stack's connections may linger
        try:
            knock.bind((settings.address(), int(os.environ[variable])))
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            yield (
                f"port {os.environ[variable]} of {settings.address()} cannot be had ({why}): "
                f"end what listens there, or change {variable} in .env"
            )


def wrong_address(name: str) -> Iterator[str]:
    """An address that clients are told must be the one that is opened."""
    variable = {"s3": "AWS_ENDPOINT_URL_S3", "mlflow": "MLFLOW_TRACKING_URI"}.get(name)
    if variable is not None and urlsplit(os.environ.get(variable, "")).port != int(os.environ[PORTS[name]]):
        yield (
            f"{variable} is not on {PORTS[name]}: "
            f"set {variable}=http://{settings.host()}:{os.environ[PORTS[name]]} in .env"
        )


def closed_folder() -> Iterator[str]:
    """PostgreSQL refuses to run as root, so that its folder must be open to another user."""
    folder = (DATA / "postgres").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0:
        return
    try:
        shutil.chown(folder, "postgres", "postgres")
    except LookupError:
        yield "PostgreSQL does not run as root, and there is no user postgres: adduser --system --group postgres"
        return
    tried = subprocess.run(
        ["test", "-w", str(folder)], user="postgres", group="postgres", extra_groups=(), cwd="/"
    )
    if tried.returncode != 0:
        yield f"the user postgres cannot reach {folder}: chmod o+x the folders above it, or start as another user than root"


def check() -> None:
    """Raises: ConfigError: all that would stop the stack, one line each."""
    names = processes()
    found = [
        line
        for look in (missing_programs, taken_port, wrong_address)
        for name in names
        for line in look(name)
    ]
    if not any("is missing" in line for line in found):
        found += closed_folder()
    if found:
        raise ConfigError("\n".join(found))


def watch(data: Path, said: Mapping[str, str | None]) -> dict[str, str]:
    """What the start scripts of Prometheus and alertmanager need beside what .env said."""
    port = {name: said[PORTS[name]] for name in ("prometheus", "alertmanager")}
    return {
        "WATCH_CONFIG": str(DEPLOY),
        "PROMETHEUS_DATA": str(data / "prometheus"),
        "PROMETHEUS_RETENTION": said.get("PROMETHEUS_RETENTION") or "30d",
        "PROMETHEUS_URL": f"http://{settings.host()}:{port['prometheus']}",
        "ALERTMANAGER_TARGET": f"{settings.host()}:{port['alertmanager']}",
        "ALERTMANAGER_DATA": str(data / "alertmanager"),
        "ALERTMANAGER_URL": f"http://{settings.host()}:{port['alertmanager']}",
    }


def main() -> None:
    settings.load()
    os.environ["PATH"] = search_path()
    check()
    data = DATA.resolve()
    os.environ |= {
        "STACK_ADDRESS": settings.address(),
        "POSTGRES_HOST": settings.host(),
        "POSTGRES_DATA": str(data / "postgres/cluster"),
        "S3_DATA": str(data / "s3"),
        "SERVE_FOLDER": str(Path.cwd()),
        "SERVE_CHAMPION": os.environ["MLFLOW_TRACKING_URI"],
        **watch(data, os.environ),
    }
    # .env has been read: honcho would expand what it reads.
    command = [sys.executable, "-m", "honcho", "--env", os.devnull, "--procfile", str(DEPLOY / "Procfile")]
    os.chdir(DEPLOY)
    os.execv(sys.executable, [*command, "start", *processes()])


if __name__ == "__main__":
    try:
        main()
    except RakutenError as error:
        sys.exit(str(error))
