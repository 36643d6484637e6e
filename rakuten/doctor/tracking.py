"""MLflow: does it answer, do artifacts go where they should, and has all that runs said arrived?"""

import json
import re
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from rich.console import Console

from rakuten.config import DoctorConfig, TrackingConfig
from rakuten.doctor.check import EXIT_CODES, Finding, Report, Severity, error, ok, skipped, warning
from rakuten.doctor.machine import nearest_folder, not_writable
from rakuten.doctor.network import knock_at
from rakuten.errors import RakutenError
from rakuten.experiment.ownership import prepare_record
from rakuten.experiment.runs import all_runs
from rakuten.experiment.tracking.inspection import (
    ArtifactRoot,
    Waiting,
    artifact_root,
    database_file,
    waiting,
)
from rakuten.experiment.tracking.journal import without_password

HEALTH_S = 5
DELIVER = "python scripts/doctor.py deliver=true"
_SERVES = "start the server with --serve-artifacts and --artifacts-destination, and leave the old place"
_RENAME = "which is fixed when an experiment is made: take another with tracking.experiment=NAME"


def check_mlflow(tracking: TrackingConfig, bucket: str | None) -> Finding:
    """The store, its experiment, and where that puts artifacts. `bucket` is what a server should put them in.

    Raises:
        RakutenError: the store cannot be opened.
    """
    if tracking.kind == "off":
        return skipped("tracking=off")
    file = database_file(tracking)
    if file is not None and not file.exists():
        if problem := not_writable(nearest_folder(file.parent)):
            return error(f"{file} cannot be made: {problem}", "tracking.uri=sqlite:///FILE in another folder")
        return _judge_folder(
            tracking, ArtifactRoot("", False, False), f"{file} will be made by the first run"
        )
    is_server = tracking.uri.startswith(("http://", "https://"))
    if is_server and (problem := knock_at(tracking.uri) or _unhealthy(tracking.uri)):
        return error(
            problem, "start it (`make stack`), mend MLFLOW_TRACKING_URI, or train with tracking=local"
        )
    root = artifact_root(tracking)
    shown = f"{without_password(tracking.uri)}, experiment {tracking.experiment}"
    if root.is_deleted:
        return error(
            f"{shown} is deleted, and takes no run",
            f"mlflow experiments restore, or tracking.experiment=NAME for another than {tracking.experiment}",
        )
    if is_server:
        return _judge_server(root, shown, bucket)
    return _judge_folder(tracking, root, shown)


def _unhealthy(uri: str) -> str | None:
    """What is wrong with the server there. Its health is told to everybody: no name and password go along."""
    place = re.sub("//[^@/]*@", "//", uri).rstrip("/") + "/health"
    try:
        with urlopen(place, timeout=HEALTH_S) as answer:
            return None if answer.read(100).strip() == b"OK" else f"what answers at {place} is not MLflow"
    except (OSError, HTTPException, ValueError) as failure:
        return f"what answers at {place} is not MLflow, or not well ({failure})"


def _judge_server(root: ArtifactRoot, shown: str, bucket: str | None) -> Finding:
    parts = urlsplit(root.uri)
    told = f"{shown}: artifacts go to {without_password(root.uri)}"
    if parts.scheme in ("", "file"):
        place = Path(unquote(parts.path))
        if not place.is_dir() or not_writable(place):
            return error(
                f"{told}, a folder that this machine does not have or may not write", f"{_SERVES}; {_RENAME}"
            )
        return warning(f"{told}, a folder of this machine, which others do not have", f"{_SERVES}; {_RENAME}")
    if parts.scheme == "s3" and bucket and parts.netloc != bucket:
        return error(
            f"{told}, and S3_BUCKET_NAME is {bucket}", f"mend S3_BUCKET_NAME, or leave the place, {_RENAME}"
        )
    return ok(told if root.exists else f"{told} once the first run has made it")


def _judge_folder(tracking: TrackingConfig, root: ArtifactRoot, shown: str) -> Finding:
    """A store without a server: whoever runs writes artifacts himself, to a folder or a bucket."""
    wanted = None if tracking.artifact_root is None else Path(tracking.artifact_root).absolute()
    parts = urlsplit(root.uri)
    if parts.scheme not in ("", "file"):
        return ok(f"{shown}: artifacts go to {without_password(root.uri)}")
    place = Path(unquote(parts.path)) if root.exists else (wanted or Path("mlruns").absolute())
    told = f"{shown}: artifacts go to {place}"
    if problem := not_writable(nearest_folder(place)):
        return error(
            f"{told}, which cannot be written: {problem}", f"make it writable, or leave it, {_RENAME}"
        )
    if wanted is not None and place != wanted:
        return warning(f"{told}, and not to {wanted} as tracking.artifact_root says", f"leave it, {_RENAME}")
    return ok(told)


def check_runs(outputs_dir: Path) -> Finding:
    """Runs that were cut off. No fault of today's, so no warning: some were ended on purpose."""
    runs = list(all_runs(outputs_dir))
    cut_off = [run.run_id for run in runs if run.state == "killed" or run.is_abandoned]
    told = f"{len(runs)} below {outputs_dir}"
    if not cut_off:
        return ok(told)
    return ok(
        f"{told}, interrupted: {', '.join(cut_off)} (resume=true with a run's own options goes on with it)"
    )


def check_journals(tracking: TrackingConfig, outputs_dir: Path) -> Finding:
    left = list(waiting(tracking, outputs_dir))
    if not left:
        return ok("all that runs said has arrived")
    if all(journal.is_held for journal in left):
        return ok(f"all that runs said has arrived, but for {len(left)} that are going on")
    told = "; ".join(_reason(journal) for journal in left if not journal.is_held)
    return warning(f"not in MLflow yet: {told}", DELIVER)


def deliver(config: DoctorConfig, console: Console) -> Report:
    """Bring to MLflow what runs could not; exit code 0 only where nothing is left.

    Runs whose process is gone are ended first, as at the start of every run.
    """
    before = list(waiting(config.tracking, config.outputs_dir))
    exit_code = 0
    if before and config.tracking.kind != "off":
        try:
            prepare_record(config, console)
        except RakutenError as failure:
            console.print(str(failure), style="red", markup=False, soft_wrap=True)
            exit_code = EXIT_CODES[Severity.ERROR]
    left = list(waiting(config.tracking, config.outputs_dir))
    for journal in left:
        console.print(f"left: {_reason(journal)}", soft_wrap=True, markup=False)
    paths = [journal.path for journal in left]
    num_delivered = sum(journal.path not in paths for journal in before)
    console.print(f"{num_delivered} journals delivered, {len(left)} left")
    told = {"delivered": num_delivered, "left": list(map(str, paths))}
    text = f"{json.dumps(told)}\n" if config.json else None
    return Report(exit_code or (EXIT_CODES[Severity.WARNING] if left else 0), text)


def _reason(journal: Waiting) -> str:
    if journal.is_held:
        return f"{journal.path}, of a run that is going on and delivers it itself"
    if not journal.is_ours:
        return f"{journal.path}, for another store or experiment than tracking says"
    return str(journal.path)
