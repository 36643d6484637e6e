"""Look for what is wrong and say what mends it. Exit code: 0 all is well, 10 warnings, 20 errors, 2 a wrong command line.

Examples:
  python scripts/doctor.py
  python scripts/doctor.py deliver=true         what MLflow missed while it was away; 0 only if nothing is left
  python scripts/doctor.py lineage=champion     back to run, commit, config and data, all hashed again
"""

from rakuten.cli import run
from rakuten.config import DoctorConfig


def main(config: DoctorConfig) -> None:
    from rakuten.console import people
    from rakuten.doctor.examination import examine
    from rakuten.doctor.lineage import walk_back
    from rakuten.doctor.tracking import deliver

    report = (deliver if config.deliver else walk_back if config.lineage else examine)(config, people())
    print(report.text or "", end="")
    raise SystemExit(report.exit_code)


if __name__ == "__main__":
    run(main, DoctorConfig, "doctor")
