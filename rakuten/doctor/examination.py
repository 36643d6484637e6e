"""All checks that a config asks for, told to people line by line or to machines as JSON."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rakuten.config import DoctorConfig
from rakuten.doctor import catalogue, environment, machine, ports, postgres, s3, tracking, versioning
from rakuten.doctor.check import EXIT_CODES, LIMIT_S, Check, Finding, Report, Severity, run_checks

_STYLES = {
    Severity.OK: "green",
    Severity.SKIPPED: "dim",
    Severity.WARNING: "bold yellow",
    Severity.ERROR: "bold red",
}
_READING_S = 120  # of a large table on a slow disk
_LOADING_S = 90  # of a large library, and then its work


def checks(config: DoctorConfig, folder: Path = Path()) -> list[Check]:
    """In the order in which one needs what they ask about. `folder` is where the project is."""
    data, model, record = config.data, config.model, config.tracking
    places = [config.outputs_dir, data.root, data.interim_dir, data.processed_dir, data.cache_dir]
    databases = {"PostgreSQL of tracking": record.uri, "PostgreSQL of sweeps": config.sweep_storage or ""}
    return [
        Check("Python", machine.check_python),
        Check("packages", machine.check_packages),
        Check("known holes", machine.check_holes),
        Check(
            "torch and GPU",
            partial(machine.check_torch, config.trainer.accelerator == "gpu"),
            machine.TORCH_S + LIMIT_S,
        ),
        Check("disks", partial(machine.check_disks, places, config.disk_free_gib)),
        Check("catalogue", partial(catalogue.check_catalogue, data, model.image is not None), _READING_S),
        Check("checksums", partial(catalogue.check_sums, data), _READING_S),
        Check("weights", partial(catalogue.check_weights, model), _READING_S),
        Check(".env", partial(environment.check_variables, folder)),
        Check(".env rights", partial(environment.check_rights, folder)),
        Check(".env and git", partial(environment.check_secrecy, folder)),
        Check("MLflow", partial(tracking.check_mlflow, record, os.environ.get(s3.BUCKET)), _LOADING_S),
        Check("runs", partial(tracking.check_runs, config.outputs_dir)),
        Check("records", partial(tracking.check_journals, record, config.outputs_dir)),
        Check("S3", s3.check_s3, _LOADING_S),
        Check("PostgreSQL", postgres.check_variables),
        *(
            Check(name, partial(postgres.check_uri, uri))
            for name, uri in databases.items()
            if uri.startswith("postgres")
        ),
        Check("DVC", partial(versioning.check_dvc, folder)),
        Check("DVC remote", partial(versioning.check_remote, folder)),
        Check("dvc.lock", partial(versioning.check_lock, folder), _LOADING_S),
        Check("git and DVC", partial(versioning.check_owners, folder), _LOADING_S),
        *(Check(f"port {port}", partial(ports.check_port, port)) for port in config.ports),
    ]


def examine(config: DoctorConfig, console: Console, folder: Path = Path()) -> Report:
    """Run all checks of the project in `folder`; told on `console` as they come, or as JSON at the end."""
    asked = checks(config, folder)
    return tell(run_checks(asked), max(len(check.name) for check in asked), config, console)


def tell(found: Iterable[tuple[str, Finding]], width: int, config: DoctorConfig, console: Console) -> Report:
    """Findings under their names, which are `width` characters long, and how bad the worst is."""
    findings = []
    for name, finding in found:
        findings.append((name, finding))
        if not config.json:
            console.print(_line(name, finding, width), soft_wrap=True)
    if not config.json:
        counts = Counter(finding.severity for _, finding in findings)
        console.print(Text(", ".join(f"{counts[each]} {each}" for each in Severity), style="bold"))
    worst = max((EXIT_CODES[finding.severity] for _, finding in findings), default=0)
    return Report(worst, _to_json(findings) if config.json else None)


def _line(name: str, finding: Finding, width: int) -> Text:
    text = Text(f"{finding.severity:<8}", style=_STYLES[finding.severity])
    text.append(f"{name:<{width + 2}}{finding.found}", style="not bold default")
    if finding.cure is not None:
        text.append(f"\n{'':{8 + width + 2}}fix: {finding.cure}", style="not bold cyan")
    return text


def _to_json(findings: Sequence[tuple[str, Finding]]) -> str:
    rows = [
        {"check": name, "severity": finding.severity.value, "found": finding.found, "cure": finding.cure}
        for name, finding in findings
    ]
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
