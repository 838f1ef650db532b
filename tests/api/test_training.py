"""Making and training embeddings and hypernetworks over HTTP: jobs of the one queue, errors inside a 200."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import PATIENCE, holding, until
from webui.core.settings import Settings
from webui.core.training_request import TrainingRequest
from webui.service.service import Service


@pytest.fixture
def train(http: TestClient, settings: Settings) -> Iterator[Any]:
    (settings.data_dir / "pictures").mkdir(exist_ok=True)

    def send(route: str, **fields: Any) -> str:
        reply = http.post(f"/sdapi/v1/{route}", json=fields)
        assert (reply.status_code, list(reply.json())) == (200, ["info"])
        return str(reply.json()["info"])

    yield send
    for folder in (settings.embeddings_dirs[0], settings.hypernetwork_dirs[0]):
        for path in folder.glob("*.pt"):
            if path.read_bytes() == b"made":
                path.unlink()


def last(service: Service) -> Any:
    return service.jobs(active_only=False)[-1].request


def test_an_embedding_is_made_as_asked_for(train: Any, service: Service) -> None:
    told = train("create/embedding", name="word", num_vectors_per_token="2", init_text=None, overwrite_old=1, logs=True)
    assert told == "create embedding filename: word.pt"
    wanted = TrainingRequest(kind="embedding", name="word", checkpoint="alpha.ckpt", create=True, overwrite=True, vectors=2)
    assert last(service) == wanted


def test_a_hypernetwork_is_made_as_asked_for(train: Any, service: Service) -> None:
    asked = {"enable_sizes": ["768", "320"], "layer_structure": "1, 2, 1", "activation_func": "relu", "weight_init": "Xavier Uniform"}
    told = train("create/hypernetwork", name="net", **asked, add_layer_norm=True, use_dropout=True, dropout_structure=[0, 0.1, 0])
    assert told == "create hypernetwork filename: net.pt"
    made = last(service)
    assert (made.widths, made.layer_structure, made.activation, made.weight_init) == ((768, 320), (1, 2, 1), "relu", "XavierUniform")
    assert (made.layer_norm, made.dropout, made.steps) == (True, (0, 0.1, 0), 0)
    train("create/hypernetwork", name="plain")
    assert (last(service).widths, last(service).dropout) == ((768, 320, 640, 1280), ())


@pytest.mark.parametrize(("kind", "field"), [("embedding", "embedding_name"), ("hypernetwork", "hypernetwork_name")])
def test_a_training_is_queued_as_asked_for(train: Any, service: Service, settings: Settings, kind: str, field: str) -> None:
    asked = {"learn_rate": "0.01", "batch_size": 2, "gradient_step": 3, "training_width": 64, "training_height": 128, "steps": "7"}
    more = {"shuffle_tags": True, "tag_drop_out": 0.5, "clip_grad_mode": "norm", "clip_grad_value": 2, "template_filename": "style.txt"}
    ignored = {"log_directory": "/etc", "create_image_every": 5, "preview_prompt": "x", "latent_sampling_method": "random"}
    told = train(f"train/{kind}", **{field: "word"}, data_root=str(settings.data_dir / "pictures"), **asked, **more, **ignored)
    assert told == f"train {kind} complete: filename: word.pt error: None"
    assert last(service) == TrainingRequest(
        kind=kind,
        name="word",
        checkpoint="alpha.ckpt",
        data_root="pictures",
        template="style.txt",
        steps=7,
        learning_rate=0.01,
        batch_size=6,
        width=64,
        height=128,
        shuffle_tags=True,
        tag_drop_out=0.5,
        max_norm=2.0,
    )


def test_a_plan_of_learning_rates_is_kept_to_the_letter_and_ends_the_training(train: Any, service: Service) -> None:
    asked = {"embedding_name": "word", "data_root": "pictures", "steps": 2000}
    train("train/embedding", **asked, learn_rate="0.005:100, 1e-3:1000,")
    assert (last(service).learning_plan, last(service).steps) == (((0.005, 100), (0.001, 1000)), 1000)
    train("train/embedding", **asked, learn_rate="0.005:100, 1e-5")
    assert (last(service).learning_plan, last(service).steps) == (((0.005, 100), (1e-5, -1)), 2000)
    train("train/embedding", **asked, learn_rate=0.25)
    assert (last(service).learning_plan, last(service).learning_rate) == ((), 0.25)


@pytest.mark.parametrize("root", ["/etc", "..", "", "none", ".", "pictures/../.."])
def test_pictures_outside_the_data_folder_are_refused_before_anything_is_queued(train: Any, service: Service, root: str) -> None:
    before = len(service.jobs(active_only=False))
    assert train("train/embedding", embedding_name="word", data_root=root).startswith("train embedding error: there is no folder")
    assert len(service.jobs(active_only=False)) == before


@pytest.mark.parametrize(
    ("route", "fields", "sentence"),
    [
        ("create/embedding", {}, "create embedding error: the embedding has no name"),
        ("create/embedding", {"name": "../../x"}, "cannot be the name of a file"),
        ("create/embedding", {"name": "x", "num_vectors_per_token": 10**9}, "out of range"),
        ("create/hypernetwork", {"name": "x", "weight_init": "Zero"}, "create hypernetwork error: weight init 'Zero' is not known"),
        ("create/hypernetwork", {"name": "x", "layer_structure": "a,b"}, "no list of numbers"),
        (
            "train/embedding",
            {"embedding_name": "x", "data_root": "pictures", "learn_rate": "0.005:100, fast"},
            "'fast' in the learning rate is no number",
        ),
        ("train/embedding", {"embedding_name": "x", "data_root": "pictures", "learn_rate": "1:10, 2:5"}, "steps have to rise"),
        ("train/embedding", {"embedding_name": "x", "data_root": "pictures", "varsize": True}, "varsize"),
        ("train/embedding", {"embedding_name": "x", "data_root": "pictures", "steps": 0}, "steps 0"),
        ("train/hypernetwork", {"hypernetwork_name": "", "data_root": "pictures"}, "train hypernetwork error"),
        ("train/embedding", {"embedding_name": "crash", "data_root": "pictures"}, "train embedding error: "),
    ],
)
def test_what_is_wrong_is_told_inside_a_200(train: Any, route: str, fields: dict[str, Any], sentence: str) -> None:
    assert sentence in train(route, **fields)


def test_a_training_shows_its_progress_by_its_id_and_ends_when_it_is_interrupted(train: Any, http: TestClient, service: Service) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(train, "train/embedding", embedding_name="hold", data_root="pictures", steps=4, id_task="task(train)")
        holding(service)
        until(lambda: service.job("task(train)").text == "training hold, loss 0.5, 25 %")
        seen = until(lambda: (told := http.get("/sdapi/v1/progress").json())["progress"] and told)
        assert (seen["progress"], seen["textinfo"]) == (0.25, "training hold, loss 0.5, 25 %")
        assert http.post("/sdapi/v1/interrupt").json() == {}
        assert running.result(PATIENCE) == "train embedding complete: filename: hold.pt error: None"
    assert service.job("task(train)").status == "interrupted"


def test_what_was_learnt_before_an_interruption_is_in_the_lists(train: Any, http: TestClient, service: Service) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(train, "train/hypernetwork", hypernetwork_name="hold", data_root="pictures", steps=4)
        holding(service)
        http.post("/sdapi/v1/interrupt")
        running.result(PATIENCE)
    assert "hold" in until(lambda: [entry["name"] for entry in http.get("/sdapi/v1/hypernetworks").json()])
