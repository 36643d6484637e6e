"""A correction that somebody sends shows where accuracy is read."""

import re
from collections.abc import Callable

import httpx
import pytest

from tests.serve.process import Service

pytestmark = pytest.mark.slow


def counted(client: httpx.Client, correct: str) -> float:
    pattern = rf'^rakuten_feedback_total{{correct="{correct}",model_version="1"}} (\S+)$'
    return sum(float(each) for each in re.findall(pattern, client.get("/metrics").text, re.MULTILINE))


def test_feedback_shows_in_the_metrics(serve: Callable[..., Service]) -> None:
    service = serve()
    with service.client() as client:
        given = [client.post("/predict", json={"designation": f"livre rouge {i}"}).json() for i in range(4)]
        codes = [each["prdtypecode"] for each in client.get("/model").json()["labels"]]
        for number, answer in enumerate(given):
            said = answer["predicted_prdtypecode"]
            truth = said if number else next(code for code in codes if code != said)
            sent = {"prediction_id": answer["prediction_id"], "prdtypecode": truth}
            assert client.post("/feedback", json=sent).status_code == 202
        service.wait(lambda: counted(client, "yes") == 3)
        service.wait(lambda: counted(client, "no") == 1)
