"""All words that the page can show, gathered from the sources: what a catalogue of another language has to hold."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import webui

PACKAGE = Path(webui.__file__).parent
STATIC = PACKAGE / "ui" / "static"
STATES = ("ready", "reconnecting", "starting", "stopped", "queued", "running", "saving", "done", "failed", "interrupted")
STATES += ("connected", "idle", "working", "open to everybody", "paused")
SILENT = ("log", "logging", "add", "warnings", "Field", "Query", "Body", "Path", "router", "parser")  # logs, command line, OpenAPI
SILENT_FILES = (
    "engine/tokenizers/*",
    "api/v1*",
    "api/lenient.py",
    "api/schemas.py",
    "api/guard.py",
    "api/mcp.py",
    "core/settings.py",
    "service/migrations.py",
)
SILENT_FILES += tuple(
    f"training/{name}.py" for name in ("miniature*", "progress", "world", "captions", "aesthetic", "upscaler", "samples", "templates*")
)
NO_WORDS = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|PRAGMA|DROP|BEGIN|WITH|ORDER|FROM|WHERE|AND|kind )|\s*(<|https?:|/)")
WORD = re.compile(r"[A-Za-z][a-z']+")
PLAIN = re.compile(r"(?:^| )[A-Za-z][a-z'-]*(?=[ ,.;:)]|$)")
CODE = re.compile(  # SQL, patterns, headers, lists of columns, templates of captions
    r"default-src|^(?!the ).*\[(name|filewords)\]|complete: filename|\(\?|\?\)| = \?|\bAS\b|\bIN \(|\\[pdwsS]|_id\b|^\w+(, \w+){4,}"
    r"|\bNOT (GLOB|IN)\b"
)
JS_CODE = re.compile(  # classes, styles, addresses, keys
    r"(tool|chip|dot|line|handle) [\w{-]|width:|translate\(|/\{|(Ctrl|Alt|Tab|\[\{\}%\])(\+| |$)|.*\$\{"
)
TEMPLATE = re.compile(r"\$\{(?:[^{}]|\{[^{}]*\})*\}")
JS_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`|\'((?:[^\'\\\n]|\\.)*)\'|/(?![*/])(?:[^/\\\n]|\\.)+/[a-z]*(?=[\s.,;)])',
    re.S,
)
JS_NAMES = re.compile(
    r"(Arrow|Page)(Up|Down|Left|Right)|Control|Alt|Shift|Meta|Escape|Enter|Tab|Delete|Backspace|Home|End|Content-Type|Files|Event|Easel"
)


def sentences() -> dict[str, str]:
    """Sentences of the server's, with {} for what is put in -> the file that has them."""
    found: dict[str, str] = {}
    for layer in ("core", "service", "engine", "api", "training"):
        for path in sorted((PACKAGE / layer).rglob("*.py")):
            if not any(path.match(f"webui/{pattern}") for pattern in SILENT_FILES):
                for text in _python_texts(ast.parse(path.read_text("utf-8"))):
                    if _is_sentence(text):
                        found.setdefault(text.strip(" ;,:"), path.name)
    return found


def _is_sentence(text: str) -> bool:
    return len(PLAIN.findall(text)) >= 3 and not NO_WORDS.match(text) and not CODE.search(text) and "\n" not in text.strip()


def _python_texts(tree: ast.AST) -> Iterator[str]:
    """Every string that is no docstring, no part of another, and not said to the log; f-strings with {} for their values."""
    for node in ast.iter_child_nodes(tree):
        text = _text(node)
        if text is not None:
            yield text
            for child in ast.walk(node):
                if isinstance(child, ast.FormattedValue):
                    yield from _python_texts(child)
        elif not (_is_docstring(node) or _is_silent(node)):
            yield from _python_texts(node)


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(value.value if isinstance(value, ast.Constant) else "{}" for value in node.values)
    return None


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_silent(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func.value if isinstance(node.func, ast.Attribute) else node.func
    return isinstance(called, ast.Name) and called.id in SILENT


def script_words() -> dict[str, str]:
    """Words in the page's own scripts, and states that they show as they come -> the file that has them."""
    found: dict[str, str] = dict.fromkeys(STATES, "job.py")
    for path in sorted(STATIC.glob("*.js")):
        for match in JS_TOKEN.finditer(path.read_text("utf-8")):
            text = next((group for group in match.groups() if group), "")
            text = TEMPLATE.sub("{}", text).strip()
            for part in text.split(" · "):
                if _is_label(part):
                    found.setdefault(part, path.name)
    return found


def _is_label(text: str) -> bool:
    if JS_NAMES.fullmatch(text) or JS_CODE.match(text) or re.search(r"[<>=#]|^\W*$|^\.", text):
        return False
    starts = bool(re.match(r"[A-Z][a-z]|A |X-ray |[A-Z]{2,} [a-z]", text))
    return (starts or ("{}" in text and " " in text)) and bool(WORD.search(text)) and not re.match(r"^[A-Z]\w*[A-Z]\w*$", text)


def page_words(config: dict[str, Any]) -> set[str]:
    """Labels, help, placeholders, choices and buttons of Gradio's components, as its config has them."""
    found: set[str] = set()
    for component in config["components"]:
        props = component["props"]
        if component["type"] in ("form", "row", "column") or props.get("visible") is False:
            continue
        found |= {str(props[name]) for name in ("label", "info", "placeholder") if props.get(name)}
        if component["type"] == "button":
            found.add(str(props["value"]))
        if component["type"] in ("radio", "checkboxgroup"):
            found |= {str(choice[0]) for choice in props["choices"]}
        if component["type"] == "html":
            found |= set(re.findall(r"aria-label='([^']+)'", props.get("html_template") or ""))
    return {text.strip() for text in found if WORD.search(text)}
