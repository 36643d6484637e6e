"""Generate the demo catalogue: raw tables and photos like the real ones, whose best possible score is known.

Examples:
  python scripts/generate.py
  python scripts/generate.py data.root=PATH data.demo.num_products=2000 data.demo.seed=1
"""

from rakuten.cli import run
from rakuten.config import TrainConfig


def main(config: TrainConfig) -> None:
    from rakuten.console import people
    from rakuten.data.demo import ensure_demo

    ensure_demo(config.data, console=people())
    print(config.data.root)


if __name__ == "__main__":
    run(main, TrainConfig, "train")
