"""The published schema and the service say the same, and the pages about it bring all that they need."""

import json
import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from rakuten.serve.problems import KINDS
from tests.browser import open_page
from tests.serve.process import Service

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def published(served: Service) -> dict[str, Any]:
    with served.client() as client:
        schema: dict[str, Any] = client.get("/openapi.json").json()
    return schema


def test_every_operation_is_there_with_its_problems(published: dict[str, Any]) -> None:
    operations = {(method, path) for path, item in published["paths"].items() for method in item}
    assert operations >= {
        ("post", "/predict"),
        ("post", "/predict_batch"),
        ("post", "/feedback"),
        ("get", "/model"),
        ("get", "/health"),
        ("get", "/livez"),
        ("get", "/readyz"),
        ("get", "/metrics"),
    }
    for path, item in published["paths"].items():
        for operation in item.values():
            assert {"400", "503"} <= set(operation["responses"]), path
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"]
    assert {"application/json", "multipart/form-data"} == set(
        published["paths"]["/predict"]["post"]["requestBody"]["content"]
    )


def test_it_refers_to_nothing_that_is_not_there(published: dict[str, Any]) -> None:
    text = json.dumps(published)
    references = set(re.findall(r'"\$ref": "([^"]*)"', text))
    assert references
    for reference in references:
        assert reference.startswith("#/components/schemas/")
        assert reference.rpartition("/")[2] in published["components"]["schemas"]


def test_limits_are_published(published: dict[str, Any]) -> None:
    schemas = published["components"]["schemas"]
    assert schemas["Batch"]["properties"]["items"]["maxItems"] == 64
    assert schemas["Item"]["properties"]["designation"]["anyOf"][0]["maxLength"] == 20_000


def test_examples_work(served: Service, published: dict[str, Any]) -> None:
    with served.client() as client:
        codes = {each["prdtypecode"] for each in client.get("/model").json()["labels"]}
        tried = 0
        for path, item in published["paths"].items():
            body = item.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in body.get("examples", {}).values():
                if example["value"].get("prdtypecode", next(iter(codes))) in codes:
                    assert client.post(path, json=example["value"]).status_code in (200, 202), example
                    tried += 1
    assert tried >= 3


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_problem_is_described_where_its_type_leads(served: Service, kind: Any) -> None:
    with served.client() as client:
        assert f'id="{kind.name}"' in client.get("/docs/problems").text


@pytest.mark.parametrize("mode", GenerationMode)
def test_every_answer_is_one_that_is_published(served: Service, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and operation.method == "get":
            continue  # nothing in them can be wrong

        @seed(20261124)
        @settings(
            max_examples=60 if operation.method == "post" else 3,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def each(case: schemathesis.Case) -> None:
            case.validate_response(case.call(), checks=CHECKS)

        each()


def test_the_documentation_needs_no_other_site(served: Service) -> None:
    with open_page(offline=False, width=1200) as page:
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{served.url}/docs")
        page.get_by_text("/predict_batch").first.wait_for()
        page.locator("#operations-predictions-predict_predict_post").click()
        page.get_by_role("button", name="Execute").first.click()
        page.locator(".live-responses-table .response-col_status", has_text="200").first.wait_for()
        assert [url for url in asked if not url.startswith((served.url, "data:"))] == []
        assert said == []
        page.goto(f"{served.url}/docs/problems#too-large")
        assert page.locator("#too-large h2").inner_text().startswith("413")
        assert said == []
