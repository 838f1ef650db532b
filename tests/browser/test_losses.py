"""What a damaged database has lost is told on the page until somebody closes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import Person
from tests.reliability.live import Live
from tests.reliability.live import serving as serving_light


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Live]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "easel.sqlite3").write_bytes(b"damaged" * 1000)
    with serving_light(tmp_path) as live:
        yield live


def test_a_damaged_database_is_told_until_it_is_closed(damaged: Live, browser: Browser) -> None:
    somebody = Person(browser.new_context(), f"{damaged.url}/")
    notes = somebody.page.locator("#easel_toasts .note", has_text="The database was damaged")
    notes.wait_for()
    notes.get_by_role("button").click()
    somebody.page.reload()
    somebody.ready(somebody.page)
    somebody.page.wait_for_function("easel.results.txt2img && document.querySelector('.statusline')")
    assert notes.count() == 0
    somebody.context.close()
    assert somebody.complaints == []
