"""The page, in Gradio.

Wherever it is imported, Gradio reads its components' sources and writes stubs for editors beside them, which takes two of its five seconds.
A server has no use for them, so they are left out.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

STUBS = "gradio.component_meta"  # the module that writes them


def write_no_stub(*_: Any) -> None:
    """In the place of Gradio's function."""


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.__dict__["create_or_modify_pyi"] = write_no_stub


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == STUBS else None
        if spec and spec.origin:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


sys.meta_path.insert(0, _Finder())
