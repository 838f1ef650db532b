"""Catalogues of other languages are whole: no word that the page can show is missing, none says less than its original."""

import json
import re

import pytest

from tests.ui.words import page_words, script_words, sentences
from webui.core.preferences import PREFERENCES, SECTIONS
from webui.service.service import Service
from webui.ui.page import LANGUAGES, build_page

CATALOGUES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(LANGUAGES.glob("*.json"))}


def without(words: set[str], catalogue: dict[str, str]) -> list[str]:
    """Words for which easel.t finds nothing: it takes the first letter of either case."""
    return sorted(word for word in words if not {word, word[:1].lower() + word[1:], word[:1].upper() + word[1:]} & catalogue.keys())


def test_there_is_simplified_chinese() -> None:
    assert "zh-CN" in CATALOGUES


@pytest.mark.parametrize("name", CATALOGUES)
def test_no_label_of_the_page_is_missing(name: str, service: Service) -> None:
    assert without(page_words(build_page(service, service.settings).get_config_file()), CATALOGUES[name]) == []


@pytest.mark.parametrize("name", CATALOGUES)
def test_no_word_of_the_pages_scripts_is_missing(name: str) -> None:
    assert without(set(script_words()), CATALOGUES[name]) == []


@pytest.mark.parametrize("name", CATALOGUES)
def test_no_sentence_of_the_servers_is_missing(name: str) -> None:
    assert without(set(sentences()), CATALOGUES[name]) == []


@pytest.mark.parametrize("name", CATALOGUES)
def test_no_setting_is_missing(name: str) -> None:
    assert without({*(preference.sentence for preference in PREFERENCES), *SECTIONS}, CATALOGUES[name]) == []


@pytest.mark.parametrize("name", CATALOGUES)
def test_a_translation_takes_as_many_values_as_its_original(name: str) -> None:
    unlike = [english for english, other in CATALOGUES[name].items() if english.count("{}") != len(re.findall(r"\{\d*\}", other))]
    assert unlike == []
