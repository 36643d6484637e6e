"""A plain FastAPI service as people write it: the model loaded once, one call a request. BENCH_ASYNC=1: in the loop."""

import os

from fastapi import FastAPI

from benchmarks.servers.loaded import Answer, Item, Model

app = FastAPI()
model = Model()


def predict(item: Item) -> Answer:
    return model.answers([item.product()])[0]


async def predict_in_the_loop(item: Item) -> Answer:
    return predict(item)


app.post("/predict")(predict_in_the_loop if os.environ.get("BENCH_ASYNC") == "1" else predict)
