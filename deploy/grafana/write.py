"""Writes deploy/grafana/dashboards/*.json from what stands beside it: python -m deploy.grafana.write"""

from pathlib import Path

from deploy.grafana.drift import drift
from deploy.grafana.panels import to_json
from deploy.grafana.quality import quality
from deploy.grafana.service import service

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, str]:
    """File name -> JSON."""
    return {f"{made.__name__}.json": to_json(made()) for made in (service, quality, drift)}


if __name__ == "__main__":
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
