"""Predict categories: any CSV of products in, a CSV with code, confidence and alternatives out, in order.

Examples:
  python scripts/predict.py
  python scripts/predict.py bundle=outputs/RUN/bundle input=new.csv images=photos output=answers.csv
  python scripts/predict.py data=rakuten data.root=PATH submission=true top_k=5
"""

from rakuten.cli import run
from rakuten.config import PredictConfig


def main(config: PredictConfig) -> None:
    from rakuten.console import people
    from rakuten.experiment.predict import predict

    done = predict(config, people())
    for problem, count in done.problems.items():
        people().print(f"[yellow]{count:,} rows[/yellow]  {problem}")
    people().print(f"{done.num_rows:,} predictions")
    print(done.output)


if __name__ == "__main__":
    run(main, PredictConfig, "predict")
