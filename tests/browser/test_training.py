"""A training that the API orders: seen in the queue with its loss, stopped so that it saves, and used in a picture."""

from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from tests.browser.conftest import Person, Server

STEPS = 5
ORDER = """([way, body]) => fetch(`sdapi/v1/${way}`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body)
})"""


def pictures(server: Server) -> str:
    """A folder of two pictures below the data folder."""
    folder = server.data_dir / "to-learn"
    folder.mkdir(exist_ok=True)
    for name, color in (("red circle", "red"), ("blue circle", "blue")):
        Image.new("RGB", (128, 128), color).save(folder / f"{name}.png")
    return str(folder)


def ask(person: Person, way: str, **body: object) -> str:
    return str(person.page.evaluate(f"async (sent) => (await (await ({ORDER})(sent)).json()).info", [way, body]))


def trained_steps(path: Path) -> int:
    with safe_open(path, "numpy") as file:
        return int(file.metadata()["step"])


@pytest.mark.slow  # tests/training/ and tests/api/test_training.py have what lies behind it
def test_five_steps_a_stop_that_saves_and_a_picture_with_what_was_learnt(person: Person, server: Server) -> None:
    page = person.page
    made = server.data_dir / "embeddings" / "glowing.safetensors"
    assert "glowing.safetensors" in ask(person, "create/embedding", name="glowing", init_text="circle", overwrite_old=True)
    before = made.read_bytes()
    training = {
        "embedding_name": "glowing",
        "learn_rate": "0.005",
        "data_root": pictures(server),
        "training_width": 128,
        "training_height": 128,
    }
    assert "complete" in ask(person, "train/embedding", steps=STEPS, **training)
    assert made.read_bytes() != before
    assert trained_steps(made) == STEPS

    page.evaluate(
        f"sent => {{ window.training = ({ORDER})(sent).then((answer) => answer.json()); }}",
        ["train/embedding", {**training, "steps": 5000}],
    )
    person.open("queue")
    row = page.locator("#queue_list li", has_text="glowing").filter(has_text="loss 0.")
    row.first.wait_for()
    losses = set()
    while len(losses) < 2:
        losses.add(row.first.inner_text().partition("loss ")[2][:6])
    row.first.get_by_role("button", name="Cancel").click()
    assert "complete" in page.evaluate("training.then((told) => told.info)")
    assert STEPS < trained_steps(made) < 5000

    person.open("txt2img")
    person.write("txt2img_prompt", "a glowing on a blue background")
    person.write("txt2img_steps", 2)
    person.make_picture("txt2img")
    assert 'TI hashes: "glowing: ' in page.locator("#txt2img_infotext").inner_text()
