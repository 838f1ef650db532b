import torch

from webui.engine.guidance import guided
from webui.engine.text_encoding import Conditioning

X = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
COND, UNCOND, LONG = (Conditioning(torch.full(shape, value)) for shape, value in (((77, 2), 3.0), ((77, 2), 1.0), ((154, 2), 5.0)))


class Network:
    """Answers x plus its context's value, and remembers how it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, context):
        self.calls.append((tuple(x.shape), tuple(context.states.shape)))
        self.context = context
        return x + context.states[:, 0, 0][:, None, None, None]


def test_guidance_pushes_away_from_the_negative_prompt():
    torch.testing.assert_close(guided(Network(), COND, UNCOND, 7.0, 2)(X, 10.0, 0), X + 1 + 7 * 2)


def test_both_answers_come_stacked_where_both_are_wanted():
    both = guided(Network(), COND, UNCOND, 7.0, 2, unguided_too=True)(X, 10.0, 0)
    torch.testing.assert_close(both, torch.stack([X + 1 + 7 * 2, X + 1]))


def test_prompts_of_one_length_share_a_call():
    network = Network()
    guided(network, COND, UNCOND, 7.0, 2)(X, 10.0, 0)
    assert network.calls == [((4, 4, 3, 3), (4, 77, 2))]


def test_prompts_of_two_lengths_take_a_call_each_without_padding():
    network = Network()
    torch.testing.assert_close(guided(network, LONG, UNCOND, 2.0, 2)(X, 10.0, 0), X + 1 + 2 * 4)
    assert network.calls == [((2, 4, 3, 3), (2, 154, 2)), ((2, 4, 3, 3), (2, 77, 2))]


def test_the_negative_prompt_runs_at_scale_one_too():
    network = Network()
    torch.testing.assert_close(guided(network, COND, UNCOND, 1.0, 2)(X, 10.0, 0), X + 3)
    assert network.calls[0][0][0] == 4


def test_sdxls_pooled_states_and_sizes_come_in_rows_with_their_prompts():
    network = Network()
    xl = [Conditioning(c.states, pooled=c.states[0], sizes=c.states[0] + 4) for c in (COND, UNCOND)]
    guided(network, *xl, 7.0, 2)(X, 10.0, 0)
    assert network.context.pooled.tolist() == [[3, 3], [3, 3], [1, 1], [1, 1]]
    assert network.context.sizes.tolist() == [[7, 7], [7, 7], [5, 5], [5, 5]]
