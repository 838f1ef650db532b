"""/docs: what the API takes and answers, out of its OpenAPI description, on a page that needs no script and no other server."""

import html
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse

METHODS = ("get", "post", "put", "patch", "delete")
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Easel: API</title>
<style>:root{{color-scheme:light dark;font:16px system-ui,sans-serif}}body{{max-width:60rem;margin:2rem auto;padding:0 1rem}}
code{{font-family:ui-monospace,monospace}}summary{{cursor:pointer;padding:.4rem 0}}summary b{{display:inline-block;min-width:4.5rem}}
td,th{{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top}}p{{margin:.3rem 0}}</style>
<h1>Easel: API</h1><p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>{routes}</html>"""


def docs_router(app: FastAPI) -> APIRouter:
    """The route, over all routes of `app`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    def docs() -> HTMLResponse:
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
        return HTMLResponse(page(app.openapi()), headers=headers)

    return router


def page(description: dict[str, Any]) -> str:
    """The page of an OpenAPI description."""
    routes = [
        _route(method, path, told, description)
        for path, methods in description.get("paths", {}).items()
        for method, told in methods.items()
        if method in METHODS
    ]
    return PAGE.format(routes="".join(routes))


def _route(method: str, path: str, told: dict[str, Any], description: dict[str, Any]) -> str:
    fields = [(each["name"], each.get("schema", {}), each.get("required", False)) for each in told.get("parameters", ())]
    body = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    shape = description.get("components", {}).get("schemas", {}).get(body.get("$ref", "").rpartition("/")[2], body)
    fields += [(name, schema, name in shape.get("required", ())) for name, schema in shape.get("properties", {}).items()]
    rows = "".join(
        f"<tr><td><code>{_text(name)}</code><td>{_kind(schema)}<td>{_default(schema, needed)}" for name, schema, needed in fields
    )
    table = f"<table><tr><th>field<th>kind<th>default{rows}</table>" if rows else ""
    return (
        f"<details><summary><b>{_text(method.upper())}</b><code>{_text(path)}</code></summary>"
        f"<p>{_text(told.get('description', told.get('summary', '')))}</p>{table}</details>"
    )


def _kind(schema: dict[str, Any]) -> str:
    kinds = [one.get("type", one.get("$ref", "").rpartition("/")[2]) for one in schema.get("anyOf", [schema])]
    return _text(" or ".join(filter(None, kinds)))


def _default(schema: dict[str, Any], needed: bool) -> str:
    return "needed" if needed else f"<code>{_text(repr(schema['default']))}</code>" if "default" in schema else ""


def _text(value: object) -> str:
    return html.escape(str(value))
