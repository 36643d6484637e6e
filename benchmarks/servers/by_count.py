"""The same service on BentoML's own batching, which is by count: BENCH_BATCH products within BENCH_LATENCY ms, in each of
BENCH_WORKERS processes."""

import os

import bentoml

from benchmarks.servers.loaded import Answer, Item, Model


@bentoml.service(workers=int(os.environ.get("BENCH_WORKERS", "1")), traffic={"timeout": 60})
class ByCount:
    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(
        batchable=True,
        max_batch_size=int(os.environ.get("BENCH_BATCH", "8")),
        max_latency_ms=int(os.environ.get("BENCH_LATENCY", "1000")),
    )
    def predict(self, items: list[Item]) -> list[Answer]:
        return self.model.answers([item.product() for item in items])
