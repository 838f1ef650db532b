import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from webui.core.guidance_options import GuidanceOptions
from webui.engine.conditioning import Scheduled
from webui.engine.guidance import Context, Guidance, guided, left_out, one_by_one
from webui.engine.text_encoding import Conditioning

X = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))


def part(value, tokens=77, weight=1.0):
    """A prompt, or a part of one, whose states are all `value`."""
    return Scheduled(((100, Conditioning(torch.full((tokens, 2), float(value)))),), weight)


COND, UNCOND, LONG = part(3), part(1), part(5, 154)


class Network:
    """Answers x plus its context's first value, and remembers how it was asked."""

    def __init__(self):
        self.calls, self.contexts = [], []

    def __call__(self, x, t, context):
        self.calls.append((tuple(x.shape), tuple(context.states.shape)))
        self.contexts.append(context)
        return x + context.states[:, 0, 0][:, None, None, None]


def answer(network, conds, uncond, guidance, call=0, t=10.0):
    return guided(network, conds, uncond, guidance, len(X))(X, t, call)


def test_guidance_pushes_away_from_the_negative_prompt():
    torch.testing.assert_close(answer(Network(), [COND], UNCOND, Guidance(7.0)), X + 1 + 7 * 2)


def test_both_answers_come_stacked_where_both_are_wanted():
    both = guided(Network(), [COND], UNCOND, Guidance(7.0), 2, unguided_too=True)(X, 10.0, 0)
    torch.testing.assert_close(both, torch.stack([X + 1 + 7 * 2, X + 1]))


def test_prompts_of_one_length_share_a_call():
    network = Network()
    answer(network, [COND], UNCOND, Guidance(7.0))
    assert network.calls == [((4, 4, 3, 3), (4, 77, 2))]


def test_prompts_of_two_lengths_take_a_call_each_without_padding():
    network = Network()
    torch.testing.assert_close(answer(network, [LONG], UNCOND, Guidance(2.0)), X + 1 + 2 * 4)
    assert network.calls == [((2, 4, 3, 3), (2, 154, 2)), ((2, 4, 3, 3), (2, 77, 2))]


def test_the_negative_prompt_runs_at_scale_one_too():
    network = Network()
    torch.testing.assert_close(answer(network, [COND], UNCOND, Guidance(1.0)), X + 3)
    assert network.calls[0][0][0] == 4


def test_sdxls_pooled_states_and_sizes_come_in_rows_with_their_prompts():
    network = Network()
    xl = [Conditioning(torch.full((77, 2), value), torch.full((2,), value), torch.full((2,), value + 4)) for value in (3.0, 1.0)]
    cond, uncond = (Scheduled(((100, conditioning),)) for conditioning in xl)
    answer(network, [cond], uncond, Guidance(7.0))
    assert network.contexts[0].pooled.tolist() == [[3, 3], [3, 3], [1, 1], [1, 1]]
    assert network.contexts[0].sizes.tolist() == [[7, 7], [7, 7], [5, 5], [5, 5]]


def test_parts_add_up_with_their_weights_negative_ones_too():
    parts = [part(3, weight=0.5), part(7, weight=-0.25), part(2)]
    network = Network()
    torch.testing.assert_close(answer(network, parts, UNCOND, Guidance(4.0)), X + 1 + 4 * (0.5 * 2 - 0.25 * 6 + 1))
    assert network.calls == [((8, 4, 3, 3), (8, 77, 2))]


def test_a_shorter_part_repeats_its_last_state_beside_a_longer_one():
    states = torch.arange(77.0)[:, None].expand(77, 2)
    network = Network()
    answer(network, [Scheduled(((100, Conditioning(states)),)), LONG], UNCOND, Guidance(2.0))
    assert [call[1] for call in network.calls] == [(4, 154, 2), (2, 77, 2)]
    assert torch.equal(network.contexts[0].states[0, :77], states)
    assert bool((network.contexts[0].states[0, 77:] == 76).all())


def test_each_call_has_the_prompt_of_its_time():
    values = [Conditioning(torch.full((77, 2), value)) for value in (2.0, 3.0, 4.0)]
    changing = Scheduled(((0, values[0]), (2, values[1]), (3, values[2])))
    found = [answer(Network(), [changing], UNCOND, Guidance(1.0), call) - X for call in range(6)]
    assert [round(float(each.mean())) for each in found] == [2, 3, 3, 4, 2, 2]  # beyond the last it is the first, as in the field


def test_the_negative_prompt_changes_too():
    one, other = (Conditioning(torch.full((77, 2), value)) for value in (2.0, 5.0))
    predict = guided(Network(), [COND], Scheduled(((0, one), (1, other))), Guidance(0.0), 2)
    torch.testing.assert_close([predict(X, 1.0, call) for call in (0, 1)], [X + 2, X + 5])


def test_contexts_are_made_once_for_prompts_that_take_turns():
    """cross-attention's keys are remembered by the tensor that they were made of."""
    values = [Conditioning(torch.full((77, 2), value)) for value in (2.0, 3.0)]
    network = Network()
    predict = guided(network, [Scheduled(tuple((call, values[call % 2]) for call in range(6)))], UNCOND, Guidance(2.0), 2)
    for call in range(6):
        predict(X, 1.0, call)
    assert len({id(context.states) for context in network.contexts}) == 2


@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_rescale_equals_diffusers(rescale):
    answers = torch.randn(3, 2, 4, 3, 3, generator=torch.Generator().manual_seed(1))

    def network(x, t, context):
        return torch.cat([answers[int(value)] for value in context.states[::2, 0, 0]])

    ours = answer(network, [part(0)], part(1), Guidance(6.0, rescale))
    raw = answers[1] + 6 * (answers[0] - answers[1])
    torch.testing.assert_close(ours, rescale_noise_cfg(raw, answers[0], rescale))


def test_where_the_negative_prompt_is_left_out_the_first_parts_answer_takes_its_place_at_scale_1():
    network = Network()
    asked = []
    guidance = Guidance(7.0, alone=lambda call, t: asked.append((call, t)) or call == 1)
    predict = guided(network, [COND, part(4, weight=0.5)], UNCOND, guidance, 2)
    torch.testing.assert_close(predict(X, 9.0, 0), X + 1 + 7 * (2 + 0.5 * 3))
    torch.testing.assert_close(predict(X, 8.0, 1), X + 3 + 0.5)
    assert [len(context.states) for context in network.contexts] == [6, 4]
    assert asked == [(0, 9.0), (1, 8.0)]


def left_out_calls(low, steps=10, **options):
    """The calls of a run from t 900 down in tens that do without the negative prompt."""
    rule = left_out(GuidanceOptions(**options), steps, low)
    return [call for call in range(steps) if rule(call, 900.0 - 100 * call)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, []),
        ({"skip_early": 0.3}, [0, 1, 2, 3]),
        ({"skip_early": 0.01}, [0]),
        ({"ngms": 2.0}, [5, 7, 9]),
        ({"ngms": 2.0, "ngms_all_steps": True}, [5, 6, 7, 8, 9]),
        ({"ngms_all_steps": True}, []),
        ({"ngms": 2.0, "skip_early": 0.1}, [0, 1, 5, 7, 9]),
    ],
)
def test_early_calls_and_every_other_below_a_level_do_without_the_negative_prompt(options, expected):
    assert left_out_calls(410.0 if options.get("ngms") else 0.0, **options) == expected


def padded(conds, uncond, **guidance):
    network = Network()
    answer(network, conds, uncond, Guidance(2.0, **guidance))
    return network


@pytest.mark.parametrize(("cond", "uncond"), [(COND, part(1, 231)), (part(3, 231), UNCOND)])
def test_the_shorter_prompt_may_be_filled_up_with_empty_chunks(cond, uncond):
    network = padded([cond], uncond, padding=Conditioning(torch.full((77, 2), 9.0)))
    assert network.calls == [((4, 4, 3, 3), (4, 231, 2))]
    short, long = (0, 2) if cond is COND else (2, 0)
    assert network.contexts[0].states[short, :, 0].tolist() == [3.0 if cond is COND else 1.0] * 77 + [9.0] * 154
    assert 9.0 not in network.contexts[0].states[long]


def test_the_negative_prompt_may_be_fitted_by_its_last_token():
    assert padded([LONG], UNCOND, last_token=True).contexts[0].states[2, :, 0].tolist() == [1.0] * 154
    assert padded([COND], part(1, 154), last_token=True).calls == [((4, 4, 3, 3), (4, 77, 2))]


def test_a_prompt_is_filled_up_even_where_the_negative_one_is_left_out():
    """As in the field: it decides on the length first."""
    network = padded([COND], part(1, 154), padding=Conditioning(torch.full((77, 2), 9.0)), alone=lambda call, t: True)
    assert network.calls == [((2, 4, 3, 3), (2, 154, 2))]


def test_the_answer_without_the_prompt_comes_along_where_it_is_wanted():
    both = guided(Network(), [COND], UNCOND, Guidance(7.0), 2, unguided_too=True)(X, 10.0, 0)
    torch.testing.assert_close(both, torch.stack([X + 1 + 7 * 2, X + 1]))


@pytest.mark.parametrize("prompts", [([COND], UNCOND), ([LONG], UNCOND), ([COND, LONG], COND)], ids=["a call", "two calls", "parts"])
def test_pictures_of_a_batch_asked_one_by_one_get_the_answers_of_the_batch(prompts):
    together, first, second = Network(), Network(), Network()
    apart = answer(one_by_one([first, second]), *prompts, Guidance(7.0))
    assert torch.equal(apart, answer(together, *prompts, Guidance(7.0)))
    for network in (first, second):
        assert network.calls == [((x[0] // 2, *x[1:]), (states[0] // 2, *states[1:])) for x, states in together.calls]


def test_pictures_that_are_told_the_same_are_told_by_one_object_and_others_by_their_own():
    network = Network()
    ask = guided(one_by_one([network, network]), [COND], UNCOND, Guidance(7.0), len(X))
    ask(X, 10.0, 0)
    ask(X, 9.0, 1)
    assert len({id(context) for context in network.contexts}) == 1
    states = torch.arange(4.0)[:, None, None].expand(4, 77, 2)
    one_by_one([network, network])(torch.cat([X, X]), 10.0, Context(states))
    assert [context.states[:, 0, 0].tolist() for context in network.contexts[-2:]] == [[0, 2], [1, 3]]
