"""The README tells what there is: every preference, sampler, schedule type, route and flag of note."""

import re
from pathlib import Path

import pytest

from webui.api.routes import sdapi_router
from webui.api.v1 import v1_router
from webui.core.choices import SAMPLERS, SCHEDULE_TYPES
from webui.core.preferences import PREFERENCES
from webui.core.settings import parse_flags
from webui.service.service import Service

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", [*SAMPLERS, *SCHEDULE_TYPES])
def test_every_sampler_and_schedule_type_is_named(name: str):
    assert re.search(rf"(\*\*: |, ){re.escape(name)}[,.]", " ".join(README.split()))


@pytest.mark.parametrize("preference", PREFERENCES, ids=lambda preference: preference.name)
def test_every_preference_stands_in_the_table_with_its_default_and_sentence(preference):
    default = "empty" if preference.default == "" else preference.default
    assert f"| `{preference.name}` | {default} | {preference.sentence} |" in README


def test_every_route_of_the_api_is_named(tmp_path: Path):
    router = sdapi_router(Service.__new__(Service), parse_flags(["--data-dir", str(tmp_path)], {}))
    paths = {route.path.removeprefix("/sdapi/v1/") for route in router.routes if route.include_in_schema}
    assert len(paths) >= 14
    assert [path for path in paths if f"`{path}`" not in README] == []


def test_every_route_of_easels_own_api_is_named(tmp_path: Path):
    router = v1_router(Service.__new__(Service), parse_flags(["--data-dir", str(tmp_path)], {}))
    paths = {route.path.removeprefix("/api/v1/") for route in router.routes}
    assert len(paths) >= 20
    told = set(re.findall(r"`(?:(?:GET|POST|PATCH|DELETE) )?([a-z][\w/{}-]+)`", README))
    assert sorted(paths - told) == []


def test_flags_that_the_readme_names_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse_flags(["--help"], {})
    offered = capsys.readouterr().out
    named = set(re.findall(r"`(--[a-z-]+)", README.partition("## Your own checkpoint")[0]))
    assert len(named) >= 12
    assert [flag for flag in named if flag not in offered] == []


def test_files_and_commands_that_the_readme_names_exist():
    root = Path(__file__).parent.parent
    makefile = (root / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
    for path in re.findall(r"^(app\.py|[a-z]+/[a-z./]*|webui/\w+(?:\.py)?)\s", README, re.MULTILINE):
        assert (root / path).exists(), path
