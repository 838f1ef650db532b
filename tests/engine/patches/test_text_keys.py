import pytest
import torch

from tests.tiny import tiny_model
from webui.engine.patches.text_keys import remembered_text_keys

X = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
TEXT, OTHER = (torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))


@pytest.fixture
def unet():
    return tiny_model("sd1").unet


def answer(unet, text, t=500):
    with torch.no_grad():
        return unet(X, t, encoder_hidden_states=text, return_dict=False)[0]


def keys(unet):
    return next(part.to_k for name, part in unet.named_modules() if name.endswith(".attn2"))


def test_answers_are_the_same_to_the_last_bit(unet):
    expected = [answer(unet, text, t) for t in (500, 400) for text in (TEXT, OTHER)]
    with remembered_text_keys(unet):
        made = [answer(unet, text, t) for t in (500, 400) for text in (TEXT, OTHER)]
    assert all(torch.equal(*pair) for pair in zip(made, expected, strict=True))


def test_each_text_is_computed_once(unet, monkeypatch):
    seen = []
    layer = keys(unet)
    compute = layer.forward
    monkeypatch.setattr(layer, "forward", lambda text: seen.append(1) or compute(text))
    with remembered_text_keys(unet):
        for t in (500, 400, 300):
            answer(unet, TEXT, t), answer(unet, OTHER, t)
    assert len(seen) == 2


def test_an_equal_text_in_another_tensor_is_computed_anew(unet):
    with remembered_text_keys(unet):
        answer(unet, TEXT)
        text = TEXT.clone()
        text += 1
        made = answer(unet, text)
    assert torch.equal(made, answer(unet, TEXT + 1))


def test_nothing_is_left_behind_even_after_an_error(unet):
    with pytest.raises(ZeroDivisionError), remembered_text_keys(unet):
        raise ZeroDivisionError
    assert "forward" not in vars(keys(unet))
