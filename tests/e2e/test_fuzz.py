"""The OpenAPI document, taken at its word by schemathesis: no 5xx, every error in the one shape."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from models.client.wire import ErrorBody
from service.api.app import create_app
from service.settings import Settings
from tests.support.grape_server import Server

schema = schemathesis.openapi.from_dict(create_app(Settings()).openapi())


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
def test_no_request_breaks_the_server(case: schemathesis.Case[Any], server: Server) -> None:
    if isinstance(case.body, dict):
        # What the engine needs for 64 x 16 sampled rewrites is the benchmark's business.
        case.body.pop("n", None)
    response = case.call(base_url=server.url)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        ErrorBody.model_validate(response.json())


def test_every_route_is_in_the_document() -> None:
    assert set(schema.raw_schema["paths"]) == {
        "/search", "/rewrite", "/rerank", "/images", "/images/{picture_id}", "/facets", "/livez",
        "/readyz", "/metrics", "/info", "/admin/index",
    }  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def still_alive(server: Server):  # type: ignore[no-untyped-def]
    yield
    assert server.client.get("/readyz").status_code == 200
