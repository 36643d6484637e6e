"""Look at the champion's traffic: is it, and are its answers, still as when it was evaluated? If not: what, and what to do.

Exit code: 0 no drift or not enough data, 10 a warning, 20 an alarm, 1 nothing could be looked at, 2 a wrong command line.

Examples:
  python scripts/drift.py window_products=2000 json=true
  python scripts/drift.py since=2026-11-24T06:00 until=2026-11-24T18:00
  python scripts/drift.py schedule="0 6 * * *"       every morning, recorded in MLflow
"""

from rakuten.cli import run
from rakuten.config import WatchConfig


def main(config: WatchConfig) -> None:
    from rakuten.console import people
    from rakuten.pipeline.watch import watch

    text, exit_code = watch(config, people())
    print(text, end="")
    raise SystemExit(exit_code)


if __name__ == "__main__":
    run(main, WatchConfig, "drift")
