import pytest
import torch
from torch import nn

from webui.engine.patches.forwards import replaced_forwards

X = torch.ones(1, 2)


def test_forwards_are_replaced_within_the_block_and_nested_blocks_unwind():
    layer = nn.Identity()
    with replaced_forwards([(layer, lambda x: x + 1)]):
        outer = layer.forward
        with replaced_forwards([(layer, lambda x: outer(x) * 10)]):
            assert layer(X).tolist() == [[20, 20]]
        assert layer(X).tolist() == [[2, 2]]
    assert layer(X).tolist() == [[1, 1]]
    assert "forward" not in vars(layer)


def test_nothing_is_left_behind_after_an_error():
    layer = nn.Identity()
    with pytest.raises(ZeroDivisionError), replaced_forwards([(layer, lambda x: x + 1)]):
        raise ZeroDivisionError
    assert "forward" not in vars(layer)
