from pathlib import Path

import pytest

from webui.core.errors import BadRequest
from webui.core.styles import Style
from webui.service.phrases import Phrases


@pytest.fixture
def phrases(tmp_path: Path) -> Phrases:
    for name, text in {
        "styles.csv": "\ufeffname,prompt,negative_prompt\nink,first,\n",
        "styles/more.csv": "name,prompt,negative_prompt\nink,second,\noil,,x\n",
        "styles/broken.csv": "\0\0",
        "wildcards/animal.txt": "\ufeffcat\n\n  dog  \n# not a bird\n",
        "wildcards/place/in/City.txt": "Rome\nOslo",
        "wildcards/empty.txt": "# nothing\n",
        "secret.txt": "secret",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return Phrases(tmp_path)


def test_styles_come_from_all_files_the_first_of_a_name_counts(phrases: Phrases) -> None:
    assert phrases.styles() == [Style("ink", "first"), Style("oil", "", "x")]


def test_without_files_there_are_no_styles(tmp_path: Path) -> None:
    assert Phrases(tmp_path / "gone").styles() == []


def test_a_wildcards_lines_are_those_that_are_not_empty_or_comments(phrases: Phrases) -> None:
    assert phrases.lines("animal") == ["cat", "dog"]
    assert phrases.lines("ANIMAL") == ["cat", "dog"]


@pytest.mark.parametrize("name", ["place/in/city", "place/*", "*city"])
def test_wildcards_lie_in_folders_and_are_found_by_patterns(phrases: Phrases, name: str) -> None:
    assert phrases.lines(name) == ["Rome", "Oslo"]


def test_several_files_are_one_list(phrases: Phrases) -> None:
    assert phrases.lines("*") == ["cat", "dog", "Rome", "Oslo"]


@pytest.mark.parametrize("name", ["gone", "empty", "../secret", "/etc/passwd", "place", ".."])
def test_names_without_lines_in_the_folder_are_refused(phrases: Phrases, name: str) -> None:
    with pytest.raises(BadRequest, match="there is no such file"):
        phrases.lines(name)
