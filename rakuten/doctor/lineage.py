"""From a bundle, a run or a version back to all that it was made of."""

from pathlib import Path

from rich.console import Console

from rakuten.config import DoctorConfig
from rakuten.doctor.check import Finding, Report, Severity
from rakuten.doctor.examination import tell
from rakuten.experiment.locate import locate
from rakuten.experiment.trace import Step, trace
from rakuten.experiment.tracking.registry import Registry

REPOSITORY = Path(__file__).parents[2]
_SEVERITY = {"ok": Severity.OK, "absent": Severity.SKIPPED, "mismatch": Severity.ERROR}
_CURE = "what is here is not what it was made of: fetch that version (git checkout, dvc pull) before relying on it"


def walk_back(config: DoctorConfig, console: Console) -> Report:
    """Every step of the way, told as the checks are; one that is not as it was recorded is an error.

    Raises:
        RakutenError: nothing is called so, its bundle is torn or was changed, or MLflow is away.
    """
    registry = Registry(config.tracking, config.registered_model)
    found = locate(config.lineage, config.outputs_dir, registry)
    steps = trace(found, registry, REPOSITORY, console)
    width = max(len(step.what) for step in steps)
    return tell(((step.what, _finding(step)) for step in steps), width, config, console)


def _finding(step: Step) -> Finding:
    return Finding(_SEVERITY[step.state], step.found, _CURE if step.state == "mismatch" else None)
