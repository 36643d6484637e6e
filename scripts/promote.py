"""Promote a run: judged against the champion on the frozen test products, champion if it passes every check.

Examples:
  python scripts/promote.py
  python scripts/promote.py run=RUN data=rakuten data.root=PATH tracking=server
  python scripts/promote.py rollback=true
"""

from rakuten.cli import run
from rakuten.config import PromoteConfig


def main(config: PromoteConfig) -> None:
    from rakuten.console import people
    from rakuten.experiment.promotion import decide
    from rakuten.serve.publish import deliver

    with decide(config, people()) as champion:
        print(deliver(config.outputs_dir, **vars(champion)))


if __name__ == "__main__":
    run(main, PromoteConfig, "promote")
