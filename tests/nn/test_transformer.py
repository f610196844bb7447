from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from scenc.data import Packing
from scenc.nn import SelfAttention, Transformer, TransformerBlock
from scenc.nn._transformer import compiled_run

D_MODEL, N_HEADS, D_FF = 12, 3, 20


def torch_layer(block, norm, activation):
    """Build PyTorch's own encoder layer with the block's weights."""
    layer = nn.TransformerEncoderLayer(
        D_MODEL,
        N_HEADS,
        D_FF,
        dropout=0.0,
        activation=activation,
        batch_first=True,
        norm_first=norm == "pre",
    )
    layer.self_attn.in_proj_weight.data = block.attention.project.weight.data
    layer.self_attn.in_proj_bias.data = block.attention.project.bias.data
    pairs = [
        (layer.self_attn.out_proj, block.attention.combine),
        (layer.linear1, block.feedforward[0]),
        (layer.linear2, block.feedforward[3]),
        (layer.norm1, block.attention_norm),
        (layer.norm2, block.feedforward_norm),
    ]
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    return layer


def randomize(module):
    """Give norms and biases values that would show if they were left out."""
    torch.manual_seed(0)
    for weight in module.parameters():
        nn.init.normal_(weight, mean=0.1, std=0.3)
    return module


@pytest.fixture
def tokens():
    return torch.randn(4, 7, D_MODEL, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_blocks_equal_pytorchs_encoder_layer(tokens, norm, activation, padded):
    ours = randomize(Transformer(2, D_MODEL, N_HEADS, D_FF, norm=norm, activation=activation))
    lengths = torch.tensor([7, 3, 1, 5])
    valid = torch.arange(7) < lengths[:, None]

    mixed = ours(tokens, valid[:, None, None] if padded else None)

    expected = tokens
    for block in ours.blocks:
        layer = torch_layer(block, norm, activation)
        expected = layer(expected, src_key_padding_mask=~valid if padded else None)
    if norm == "pre":
        expected = nn.functional.layer_norm(
            expected, (D_MODEL,), ours.final_norm.weight, ours.final_norm.bias
        )
    where = valid if padded else torch.ones_like(valid)
    torch.testing.assert_close(mixed[where], expected[where], rtol=1e-4, atol=1e-5)


def test_tokens_have_no_positions(tokens):
    transformer = randomize(Transformer(2, D_MODEL, N_HEADS, D_FF))
    order = torch.tensor([3, 0, 6, 5, 1, 2, 4])
    torch.testing.assert_close(
        transformer(tokens[:, order]), transformer(tokens)[:, order], rtol=1e-4, atol=1e-5
    )


def test_unattended_tokens_change_nothing(tokens):
    transformer = randomize(Transformer(2, D_MODEL, N_HEADS, D_FF))
    attend = (torch.arange(7) < 4)[None, None, None]
    changed = torch.where((torch.arange(7) < 4)[:, None], tokens, 1e3)
    torch.testing.assert_close(
        transformer(tokens, attend)[:, :4], transformer(changed, attend)[:, :4]
    )


@pytest.mark.parametrize("part", ["attention", "block"])
def test_dropout_acts_in_training_only(tokens, part):
    if part == "attention":
        module = SelfAttention(D_MODEL, N_HEADS, dropout=0.5)
    else:
        module = TransformerBlock(D_MODEL, N_HEADS, D_FF, dropout=0.5)
    torch.manual_seed(0)
    module.train()
    assert not torch.equal(module(tokens, None), module(tokens, None))
    module.eval()
    assert torch.equal(module(tokens, None), module(tokens, None))


def test_dropout_is_on_attention_and_both_sublayers():
    block = TransformerBlock(D_MODEL, N_HEADS, D_FF, dropout=0.3)
    assert block.attention.dropout == 0.3
    assert [m.p for m in block.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.3]


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_attention_weights_are_those_of_pytorch(norm):
    network = Transformer(2, D_MODEL, N_HEADS, D_FF, norm=norm).eval()
    x = torch.randn(4, 7, D_MODEL)
    seen = torch.arange(7) < torch.tensor([7, 3, 1, 5])[:, None]
    for block, weights in zip(
        network.blocks, network.attention_weights(x, seen[:, None, None]), strict=True
    ):
        layer = torch_layer(block, norm, "gelu")
        inner = block.attention_norm(x) if norm == "pre" else x
        _, expected = layer.self_attn(
            inner, inner, inner, key_padding_mask=~seen, average_attn_weights=False
        )
        torch.testing.assert_close(weights, expected)
        x = block(x, seen[:, None, None])


# PyTorch looks at hidden states' gradients itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_blocks_are_compiled_once_for_all_sizes(monkeypatch):
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    # What is traced, without the C compiler that would make it faster.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep))
    compiled_run.cache_clear()
    stack = Transformer(3, D_MODEL, N_HEADS, D_FF).train()
    randomize(stack)
    try:
        for lengths in ([5, 2], [4, 0, 7, 1], [9]):
            packing = Packing.of(torch.tensor(lengths), sum(lengths), max(lengths))
            x = torch.randn(sum(lengths), D_MODEL, requires_grad=True)
            expected = stack(x, packing)
            stack.compile_blocks = True
            torch.testing.assert_close(stack(x, packing), expected)
            with torch.no_grad():
                torch.testing.assert_close(stack(x, packing), expected)
            stack.compile_blocks = False
    finally:
        compiled_run.cache_clear()
    assert len(graphs) <= 2  # one cell has a graph of its own
