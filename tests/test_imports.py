"""The walls of STYLE.md: imports point down, each library has one home, there are no cycles."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "core": set(),
    "engine": {"core"},
    "training": {"core", "engine"},
    "service": {"core"},
    "ui": {"core", "service"},
    "api": {"core", "service"},
}
HOMES = {
    "torch": {"engine", "training"},
    "diffusers": {"engine", "training"},
    "transformers": {"engine", "training"},
    "accelerate": {"engine", "training"},
    "safetensors": {"engine", "training"},
    "gradio": {"ui"},
    "fastapi": {"api"},
    "starlette": {"api"},
    "sqlite3": {"service"},
    "ray": {"service"},
}
CORE_LIBRARIES = {"PIL", "webui"}  # beyond the standard library
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "webui").rglob("*.py"))
}


def imports(path: Path, package: str, everywhere: bool = True) -> set[str]:
    """Full names that `path`, a module of `package`, imports; with everywhere False only when it is imported itself, not in functions."""
    found = set()
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8")))) if everywhere else at_import(ast.parse(path.read_text("utf-8")))
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package if node.level else "", node.module or ""]))
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return found


def at_import(tree: ast.AST) -> list[ast.AST]:
    """The nodes that run when a module is imported: not those in functions, nor below `if TYPE_CHECKING`."""
    nodes = []
    for node in ast.iter_child_nodes(tree):
        lazy = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not lazy and not typing:
            nodes += [node, *at_import(node)]
    return nodes


def package_of(module: str) -> str:
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def floor_of(module: str) -> str:
    """ "core" of "webui.core.prompt"; "" of the modules directly below webui."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else ""


FLOORED = [module for module in MODULES if floor_of(module)]


@pytest.mark.parametrize("module", FLOORED)
def test_imports_point_down(module):
    floor = floor_of(module)
    for name in imports(MODULES[module], package_of(module)):
        if name.split(".")[0] == "webui" and name != "webui":
            assert floor_of(name) in MAY_IMPORT[floor] | {floor}, f"{module} must not import {name}"


@pytest.mark.parametrize("module", FLOORED)
def test_each_library_has_one_home(module):
    for name in imports(MODULES[module], package_of(module)):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or floor_of(module) in homes, f"{module} must not import {name}"


@pytest.mark.parametrize("module", [module for module in FLOORED if floor_of(module) == "core"])
def test_core_needs_pillow_and_nothing_else(module):
    names = {name.split(".")[0] for name in imports(MODULES[module], package_of(module))}
    assert names <= CORE_LIBRARIES | sys.stdlib_module_names


def test_there_are_no_cycles():
    graph = {module: imports(path, package_of(module)) & set(MODULES) - {module} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a cycle: {' -> '.join([*trail[trail.index(module) :], module])}"
        if module not in done:
            for name in sorted(graph[module]):
                visit(name, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("module", [module for module in FLOORED if floor_of(module) in ("core", "service", "ui", "api")])
def test_the_server_process_reads_no_module_that_needs_torch(module):
    """Follows what is imported when a module is: none of the server's own modules leads to engine or training, not even through build."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in MODULES and name not in seen:
            seen.add(name)
            waiting += imports(MODULES[name], package_of(name))
    assert not [name for name in seen if floor_of(name) in ("engine", "training")]


@pytest.mark.skipif(not (ROOT / "app.py").is_file() or not (ROOT / "webui/build.py").is_file(), reason="app.py or build.py is not there")
def test_starting_the_app_imports_no_torch():
    code = (
        "import sys, app, webui.build, webui.core.catalog, webui.service.service\n"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert answer.stdout.strip() == "[]", answer.stderr
