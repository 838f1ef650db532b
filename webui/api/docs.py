"""What the APIs take and answer, as one plain page, made of the OpenAPI schema: no script, and nothing from another host."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

REFERENCE = "#/components/schemas/"
HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Easel: API</title>'
STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
section { border-top: 1px solid #8885; padding: .6rem 0; overflow-x: auto }
h2 { font-size: 1.05rem; margin: .4rem 0 }
h3 { font-size: .95rem; margin: .8rem 0 .2rem }
pre { background: #8882; padding: .6rem; border-radius: .5rem; overflow-x: auto }
td { text-align: left; vertical-align: top; padding: .15rem .9rem .15rem 0 }
.quiet { opacity: .75 }
"""


def add_docs_route(router: APIRouter, prefix: str = "") -> None:
    """/docs on `router`: of the routes whose paths begin with `prefix`."""

    @router.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(page(request.app.openapi(), prefix), headers=HEADERS)


def page(schema: Mapping[str, Any], prefix: str = "") -> str:
    """The page of an OpenAPI schema."""
    paths = {path: told for path, told in schema["paths"].items() if path.startswith(prefix)}
    routes = [_route(method, path, told) for path, methods in paths.items() for method, told in methods.items()]
    known = schema.get("components", {}).get("schemas", {})
    used = _used(paths, known)
    shapes = [_shape(name, told) for name, told in known.items() if name in used]
    link = "" if prefix else '<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>'
    title = f"Easel: <code>{escape(prefix)}</code>" if prefix else "Easel: API"
    return f"{HEAD}<style>{STYLE}</style><h1>{title}</h1>{link}{''.join(routes)}<h1>Shapes</h1>{''.join(shapes)}</html>"


def _used(paths: Mapping[str, Any], known: Mapping[str, Any]) -> set[str]:
    """The names of the shapes that these routes use, and those that these use."""
    used: set[str] = set()
    waiting = set(_references(paths))
    while waiting:
        used |= waiting
        waiting = {name for each in waiting for name in _references(known[each])} - used
    return used


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"].removeprefix(REFERENCE)
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _route(method: str, path: str, told: Mapping[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(each['name'])}</code><td>{_kind(each.get('schema', {}))}<td class=quiet>{escape(each.get('in', ''))}"
        f"<td>{escape(each.get('description', ''))}"
        for each in told.get("parameters", ())
    )
    bodies = [f"{escape(kind)}: {_kind(body['schema'])}" for kind, body in told.get("requestBody", {}).get("content", {}).items()]
    good = next((answer for code, answer in told.get("responses", {}).items() if code.startswith("2")), {})
    answers = [f"{escape(kind)}: {_kind(body.get('schema', {}))}" for kind, body in good.get("content", {}).items()]
    parts = [
        f"<section><h2><code>{escape(method.upper())} {escape(path)}</code></h2><p>{escape(told.get('description', ''))}</p>",
        f"<table>{parameters}</table>" if parameters else "",
        f"<p>Body: {', '.join(bodies)}</p>" if bodies else "",
        f"<p>Answer: {', '.join(answers)}</p></section>" if answers else "</section>",
    ]
    return "".join(parts)


def _shape(name: str, told: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code><td>{_kind(part)}"
        f"<td class=quiet>{escape(json.dumps(part['default'])) if 'default' in part else ''}<td>{escape(part.get('description', ''))}"
        for field, part in told.get("properties", {}).items()
    )
    examples = "".join(f"<pre>{escape(json.dumps(example, indent=1, ensure_ascii=False))}</pre>" for example in told.get("examples", ()))
    words = escape(told.get("description", ""))
    return f'<section id="{escape(name)}"><h3>{escape(name)}</h3><p>{words}</p><table>{rows}</table>{examples}</section>'


def _kind(part: Mapping[str, Any]) -> str:
    """The type of a field, with links to the shapes."""
    if "$ref" in part:
        name = escape(part["$ref"].removeprefix(REFERENCE))
        return f'<a href="#{name}">{name}</a>'
    for key in ("anyOf", "oneOf"):
        if key in part:
            return " | ".join(_kind(each) for each in part[key])
    if "enum" in part or "const" in part:
        return " | ".join(f"<code>{escape(json.dumps(each))}</code>" for each in part.get("enum", [part.get("const")]))
    if part.get("type") == "array":
        return f"list of {_kind(part.get('items', {}))}"
    return escape(str(part.get("type", "any")))
