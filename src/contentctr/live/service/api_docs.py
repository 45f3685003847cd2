"""The API for people: `/docs` and `/redoc` with files of this package and of fastapi-offline."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

_PAGES = Path(__file__).parents[1] / "api_docs"
_ASSETS = "fastapi_offline"
"""Carries Swagger UI and ReDoc; only its files are used, for its pages have scripts in them."""
_SCHEME = "key"

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def get_docs() -> Response:
    """The API, to be tried out."""
    return FileResponse(_PAGES / "swagger.html")


@router.get("/redoc")
async def get_redoc() -> Response:
    """The API, to be read."""
    return FileResponse(_PAGES / "redoc.html")


def serve_docs(app: FastAPI, *, keys_needed: bool) -> None:
    """Add the pages, and what the schema says of keys, to an application."""
    app.include_router(router)
    spec = find_spec(_ASSETS)
    assert spec is not None and spec.origin is not None, f"{_ASSETS} is part of the extra live"
    assets = Path(spec.origin).parent / "static"
    app.mount("/docs/assets", StaticFiles(directory=assets), name="docs-assets")
    app.mount("/docs/page", StaticFiles(directory=_PAGES), name="docs-page")
    app.openapi = _schema(app, keys_needed)  # type: ignore[method-assign]


def _schema(app: FastAPI, keys_needed: bool) -> Callable[[], dict[str, Any]]:
    """What makes the schema, once; the guard in front of all routes is unknown to FastAPI."""

    def make() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            schema["components"]["securitySchemes"] = {
                _SCHEME: {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-API-Key",
                    "description": "Wanted where the service has keys; roles: read, write, admin.",
                }
            }
            wanted: list[dict[str, list[str]]] = [{_SCHEME: []}]
            for path, methods in schema["paths"].items():
                rule = wanted if keys_needed else [*wanted, {}]
                for operation in methods.values():
                    operation["security"] = rule if path.startswith("/v1/") else []
            app.openapi_schema = schema
        return app.openapi_schema

    return make
