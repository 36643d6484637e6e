"""Ingest a catalogue: raw tables and photos in, a validated table out, bad rows in quarantine with a reason each.

Examples:
  python scripts/ingest.py
  python scripts/ingest.py data=rakuten data.root=PATH/TO/CATALOGUE
  python scripts/ingest.py data.demo.num_products=2000 data.demo.seed=1
"""

from rakuten.cli import run
from rakuten.config import TrainConfig


def main(config: TrainConfig) -> None:
    from rakuten.console import people
    from rakuten.data.ingest import ingest, render_report

    people().print(render_report(ingest(config.data, console=people())))
    print(config.data.interim_dir / "merged_train.csv")


if __name__ == "__main__":
    run(main, TrainConfig, "train")
