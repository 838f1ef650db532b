"""Without a study a run calls what it would call anyway: the very same functions."""

from webui.core.request import GenerationRequest
from webui.engine.study import NO_STUDY


def test_no_study_gives_everything_back_as_it_came():
    network, denoise, conds = object(), object(), (object(),)
    assert NO_STUDY.network(network) is network
    assert NO_STUDY.denoise(denoise) is denoise
    assert NO_STUDY.conds(None, conds) is conds


def test_no_study_makes_the_pictures_of_the_seeds_in_a_row():
    request = GenerationRequest(seed=7, batch_size=2, batch_count=2)
    assert [single.seed for single in NO_STUDY.singles(request, range(2, 4))] == [9, 10]
