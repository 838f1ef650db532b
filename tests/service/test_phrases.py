from pathlib import Path

import pytest

from webui.core.errors import BadRequest, MissingModel
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


def test_a_style_is_changed_in_the_file_that_it_is_in_and_the_old_file_is_kept(phrases: Phrases, tmp_path: Path) -> None:
    before = (tmp_path / "styles/more.csv").read_bytes()
    phrases.save_style(Style("oil", "oil paint, {prompt}", "photo"), was="oil")
    assert Style("oil", "oil paint, {prompt}", "photo") in phrases.styles()
    assert (tmp_path / "styles/more.csv").read_bytes().startswith(b"\xef\xbb\xbfname,prompt,negative_prompt\r\n")
    assert (tmp_path / "styles/more.csv.bak").read_bytes() == before
    assert b"oil" not in (tmp_path / "styles.csv").read_bytes()


def test_a_new_style_goes_to_the_end_of_the_file_that_is_named(phrases: Phrases) -> None:
    phrases.save_style(Style("chalk", "chalk"))
    phrases.save_style(Style("wax", "wax"), file="styles/own.csv")
    assert [(kept.style.name, kept.file) for kept in phrases.kept_styles()] == [
        ("ink", "styles.csv"),
        ("chalk", "styles.csv"),
        ("oil", "styles/more.csv"),
        ("wax", "styles/own.csv"),
    ]


def test_a_renamed_style_keeps_its_place(phrases: Phrases) -> None:
    phrases.save_style(Style("chalk"))
    phrases.save_style(Style("pen", "first"), was="ink")
    assert [style.name for style in phrases.styles()] == ["pen", "chalk", "ink", "oil"]  # the ink of the other file shows now


def test_a_name_that_another_style_has_is_refused(phrases: Phrases) -> None:
    with pytest.raises(BadRequest, match="already"):
        phrases.save_style(Style("ink"), was="oil")


def test_a_deleted_style_is_gone_and_a_second_time_it_is_missing(phrases: Phrases) -> None:
    phrases.remove_style("oil")
    assert [style.name for style in phrases.styles()] == ["ink"]
    with pytest.raises(MissingModel):
        phrases.remove_style("oil")


@pytest.mark.parametrize("file", ["../secret.csv", "styles/../secret.csv", "secret.txt", "styles/a/b.csv", "wildcards/x.csv"])
def test_no_style_is_written_outside_of_the_style_files(phrases: Phrases, tmp_path: Path, file: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadRequest):
        phrases.save_style(Style("new"), file=file)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_with_what_cannot_be_read_is_left_as_it_is(phrases: Phrases, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="mend it"):
        phrases.save_style(Style("new"), file="styles/broken.csv")
    assert (tmp_path / "styles/broken.csv").read_bytes() == b"\0\0"


@pytest.mark.parametrize("content", [bytes(40), b"name,prompt\nmine,\xff\xfe\n", b"name,prompt\nmy\0ne,a\n"])
def test_a_damaged_file_of_styles_is_told_once_and_left_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    (tmp_path / "styles.csv").write_bytes(content)
    phrases = Phrases(tmp_path)
    phrases.styles()
    phrases.styles()
    assert [record.message.partition(";")[0] for record in caplog.records] == ["styles.csv is damaged, no text of UTF-8"]
    assert (tmp_path / "styles.csv").read_bytes() == content


def test_wildcards_are_completed_by_any_part_and_styles_by_how_they_begin(phrases: Phrases, tmp_path: Path) -> None:
    (phrases.wildcards_dir / "deep").mkdir(parents=True, exist_ok=True)
    (phrases.wildcards_dir / "deep" / "Hues.txt").write_text("red", "utf-8")
    (tmp_path / "styles.csv").write_text('name,prompt,negative_prompt\nWoodcut,"{prompt}, a woodcut",\nwooden,,plain\n', "utf-8")
    assert phrases.completions("__hu") == [("wildcard", "deep/Hues", "__deep/Hues__")]
    assert phrases.completions("wood") == [("style", "Woodcut", "a woodcut")]  # the other one has nothing for this prompt
    assert phrases.completions("") == []
