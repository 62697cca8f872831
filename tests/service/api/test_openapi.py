"""The OpenAPI document: which routes need a key, and that /docs can send one."""

from pathlib import Path
from typing import Any

from service.api.app import create_app
from service.api.auth import OPEN_PATHS
from service.settings import Settings

KEY = "a-key-of-these-tests-0123456789"


def document(**settings: Any) -> dict[str, Any]:
    return create_app(Settings(llm="none", **settings)).openapi()


def test_every_route_but_the_health_checks_names_both_schemes(tmp_path: Path) -> None:
    described = document(api_keys=KEY, adapter_registry=tmp_path)
    schemes = described["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    header = schemes["api_key"]
    assert (header["type"], header["in"], header["name"]) == ("apiKey", "header", "X-API-Key")
    assert {"/search", "/metrics", "/admin/adapters", *OPEN_PATHS} <= set(described["paths"])
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            # A list of alternatives: either scheme is enough.
            named: list[dict[str, list[str]]] = (
                [] if path in OPEN_PATHS else [{"bearer": []}, {"api_key": []}]
            )
            assert operation.get("security", []) == named, (method, path)


def test_a_server_without_keys_names_no_scheme() -> None:
    described = document()
    assert "securitySchemes" not in described["components"]
    assert all(
        "security" not in operation
        for operations in described["paths"].values()
        for operation in operations.values()
    )


def test_the_document_is_made_once() -> None:
    app = create_app(Settings(llm="none", api_keys=KEY))
    assert app.openapi() is app.openapi()
