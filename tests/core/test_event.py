"""Events are plain data that cross a process boundary; progress counts the whole job."""

import pickle

import pytest
from PIL import Image

from webui.core.event import Failed, Finished, Loading, Picture, Pictures, Preview, Progress
from webui.core.request import GenerationRequest


@pytest.mark.parametrize(
    ("progress", "fraction"),
    [(Progress(1, 1, 0, 20), 0.0), (Progress(1, 1, 20, 20), 1.0), (Progress(2, 4, 10, 20), 0.375), (Progress(1, 1, 0, 0), 0.0)],
)
def test_progress_is_a_part_of_the_whole_job(progress, fraction):
    assert progress.fraction == fraction


def test_events_cross_a_process_boundary():
    picture = Picture(Image.new("RGB", (8, 8), "red"), GenerationRequest(seed=3), "text")
    for event in (Loading("x"), Progress(1, 1, 1, 2), Preview(b"jpeg"), Finished(True), Failed("no", 422), Pictures((picture,))):
        assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301
