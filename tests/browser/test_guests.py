"""A guest on the page: logs in, makes a picture, sees it, and finds nothing of the owner's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import Person, free_port, serving

OWNER, GUEST = ("ann", "owner-secret"), ("bob", "guest-secret")


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[str]:
    """A server with an owner and a guest."""
    port = free_port()
    with serving(tmp_path, port, "--use-cpu", "--listen", "--gradio-auth", ":".join(OWNER), "--guest-auth", ":".join(GUEST)):
        yield f"http://127.0.0.1:{port}/"
    log = (tmp_path / "server.log").read_text("utf-8")
    assert "secret" not in log


class Visitor(Person):
    """Somebody who logs in when the page asks for it."""

    user, password = GUEST

    def ready(self, page) -> None:
        page.fill("[name=username]", self.user)
        page.fill("[name=password]", self.password)
        page.click("button")
        super().ready(page)


class Owner(Visitor):
    user, password = OWNER


def test_a_guest_makes_a_picture_and_sees_no_other(locked: str, browser: Browser) -> None:
    people = []
    for kind in (Owner, Visitor):
        somebody = kind(browser.new_context(), locked)
        somebody.write("txt2img_prompt", "a red circle")
        somebody.write("txt2img_steps", 2)
        somebody.make_picture("txt2img")
        people.append(somebody)
    owner, guest = people
    assert owner.page.locator(".statusline .connection").get_attribute("title") == "Other machines can reach this Easel with a password"
    mine, theirs = (each.page.locator("#txt2img_results .view").get_attribute("src") for each in (guest, owner))
    assert guest.page.request.get(mine).status == 200
    assert owner.page.request.get(mine).status == 200
    stolen = theirs.partition("client=")[0] + mine[mine.index("client=") :]
    assert guest.page.request.get(stolen).status == 403
    assert guest.page.request.post(f"{locked}sdapi/v1/options", data={"samples_format": "jpg"}).status == 403
    assert owner.page.request.post(f"{locked}sdapi/v1/options", data={"samples_format": "jpg"}).status == 200
    for each in people:
        each.context.close()
    assert (owner.complaints, guest.complaints) == ([], [])
