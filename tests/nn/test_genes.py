from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from scenc.nn import LearnedGeneEncoder, ProteinGeneEncoder

N_GENES, DIM, D_MODEL = 9, 5, 4
GENES = torch.tensor([[3, 8, 3], [0, 1, 8]])
LACKING = torch.tensor([1, 8])


@pytest.fixture
def vectors():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(N_GENES, DIM)).astype("f4"))


@pytest.fixture
def has_vector():
    mask = torch.ones(N_GENES, dtype=torch.bool)
    mask[LACKING] = False
    return mask


def project(encoder, vectors):
    """The MLP of eq. 12 in numpy."""
    (w1, b1), (w2, b2) = (
        (encoder.mlp[i].weight.detach().numpy(), encoder.mlp[i].bias.detach().numpy())
        for i in (0, 2)
    )
    return np.maximum(vectors.numpy().astype("f4") @ w1.T + b1, 0) @ w2.T + b2


def build(vectors, **options):
    return ProteinGeneEncoder.from_vectors(vectors, D_MODEL, hidden=7, activation="relu", **options)


def test_learned_looks_a_vector_up():
    encoder = LearnedGeneEncoder(N_GENES, D_MODEL)
    table = encoder.embedding.weight.detach().numpy()
    np.testing.assert_array_equal(encoder(GENES).detach(), table[GENES.numpy()])
    np.testing.assert_array_equal(encoder.table().detach(), table)


@torch.no_grad()
def test_learned_may_be_layer_normalised():
    encoder = LearnedGeneEncoder(N_GENES, D_MODEL, layer_norm=True)
    table = encoder.embedding.weight.numpy()
    normed = (table - table.mean(axis=1, keepdims=True)) / np.sqrt(
        table.var(axis=1, keepdims=True) + 1e-5
    )
    np.testing.assert_allclose(encoder.table().numpy(), normed, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder(GENES).numpy(), normed[GENES.numpy()], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_protein_is_an_mlp_of_the_fixed_vectors(vectors, grad, dtype):
    vectors = vectors.to(dtype)
    encoder = build(vectors).train(grad)
    expected = project(encoder, vectors)
    with torch.set_grad_enabled(grad):
        np.testing.assert_allclose(
            encoder(GENES).detach(), expected[GENES.numpy()], rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(encoder.table().detach(), expected, rtol=1e-5, atol=1e-6)
    assert encoder.vectors.dtype == dtype
    assert "vectors" not in dict(encoder.named_parameters())


@pytest.mark.parametrize("grad", [True, False])
def test_genes_without_a_vector_learn_one_of_their_own(vectors, has_vector, grad):
    encoder = build(vectors, has_vector=has_vector, missing="learned").train(grad)
    expected = project(encoder, vectors)
    expected[LACKING] = encoder.own.detach().numpy()
    with torch.set_grad_enabled(grad):
        np.testing.assert_allclose(
            encoder(GENES).detach(), expected[GENES.numpy()], rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(encoder.table().detach(), expected, rtol=1e-5, atol=1e-6)
    assert encoder.own.shape == (2, D_MODEL)


def test_genes_without_a_vector_may_share_the_projection_of_zero(vectors, has_vector):
    vectors[LACKING] = torch.nan
    encoder = build(vectors, has_vector=has_vector, missing="zero")
    zero = project(encoder, torch.zeros(1, DIM))
    np.testing.assert_allclose(encoder.table().detach()[LACKING], np.repeat(zero, 2, 0), rtol=1e-5)
    assert len(encoder.own) == 0


def test_the_mlp_runs_once_over_distinct_genes(vectors):
    encoder, seen = build(vectors), []
    encoder.mlp.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    encoder(GENES)
    assert seen == [4]


def test_on_a_gpu_no_step_waits_for_the_number_of_distinct_genes(vectors, has_vector):
    encoder = build(vectors, has_vector=has_vector).train()
    # Tensors without values: to ask for a number that depends on them is an error.
    with FakeTensorMode(allow_non_fake_inputs=True):
        encoded = encoder.to("cuda")(GENES.to("cuda"))
    assert encoded.requires_grad
    assert encoded.shape == (2, 3, D_MODEL)
    assert encoded.device.type == "cuda"


@pytest.mark.parametrize("output", ["plain", "layer_norm"])
def test_the_whole_vocabulary_gives_what_the_distinct_genes_give(vectors, has_vector, output):
    encoder = build(vectors, has_vector=has_vector, output=output).train()
    aim = torch.randn(2, 3, D_MODEL, generator=torch.Generator().manual_seed(0))
    found = []
    for encode in (encoder, lambda genes: encoder.table()[genes]):
        encoder.zero_grad()
        encoded = encode(GENES)
        (encoded * aim).sum().backward()
        gradients = [w.grad.clone() for w in encoder.parameters() if w.requires_grad]
        found.append([encoded.detach(), *gradients])
    for distinct, whole in zip(*found, strict=True):
        torch.testing.assert_close(distinct, whole)


def test_evaluation_projects_the_vocabulary_once(vectors):
    encoder, seen = build(vectors).eval(), []
    encoder.mlp.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    with torch.inference_mode():
        for _ in range(3):
            encoder(GENES)
            encoder.table()
    assert seen == [N_GENES]


def change_by_training(encoder):
    encoder.train()
    with torch.no_grad():
        encoder.mlp[0].weight.mul_(2)
    encoder.eval()


def change_by_loading(encoder):
    state = {
        name: w + 1 if w.is_floating_point() else w for name, w in encoder.state_dict().items()
    }
    encoder.load_state_dict(state)


def change_by_loading_as_part(encoder):
    nn.ModuleDict({"gene_encoder": encoder}).load_state_dict(
        {f"gene_encoder.{name}": w * 2 for name, w in encoder.state_dict().items()}
    )


@pytest.mark.parametrize(
    "change", [change_by_training, change_by_loading, change_by_loading_as_part]
)
def test_the_kept_projection_is_dropped_when_weights_change(vectors, change):
    encoder = build(vectors).eval()
    with torch.no_grad():
        before = encoder.table().clone()
        change(encoder)
        assert not torch.allclose(encoder.table(), before)
        expected = project(encoder, encoder.vectors)
    np.testing.assert_allclose(encoder.table().detach(), expected, rtol=1e-5, atol=1e-6)


def test_the_kept_projection_follows_a_move_of_precision(vectors):
    encoder = build(vectors).eval()
    with torch.no_grad():
        encoder.table()
        encoder.double()
        encoder.float()
        assert encoder._cached is None


def test_gradients_reach_mlp_and_own_vectors_but_not_the_fixed_ones(vectors, has_vector):
    encoder = build(vectors, has_vector=has_vector)
    encoder(GENES).square().sum().backward()
    assert all(w.grad.abs().sum() > 0 for w in encoder.parameters())
    assert not encoder.vectors.requires_grad


def test_inputs_may_be_scaled_to_unit_size(vectors):
    scaled = build(vectors * 7, input_scale="l2").vectors
    expected = vectors / vectors.square().mean(dim=1, keepdim=True).sqrt()
    torch.testing.assert_close(scaled, expected)


def test_inputs_may_be_standardised_over_the_genes_that_have_them(vectors, has_vector):
    vectors[LACKING] = torch.nan
    scaled = build(vectors * 3 + 5, has_vector=has_vector, input_scale="standardize").vectors
    known = vectors[has_vector].numpy()
    expected = (known - known.mean(axis=0)) / known.std(axis=0)
    np.testing.assert_allclose(scaled[has_vector], expected, rtol=1e-4, atol=1e-5)
    assert not scaled[LACKING].any()


def test_outputs_may_start_with_the_spread_of_a_learned_table(vectors, has_vector):
    encoder = build(vectors, has_vector=has_vector, output="matched", init_std=0.3)
    table = encoder.table().detach().numpy()[has_vector.numpy()]
    np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-6)
    assert np.sqrt((table**2).mean()) == pytest.approx(0.3, rel=1e-4)


def test_outputs_may_pass_a_layer_norm(vectors):
    encoder = build(vectors, output="layer_norm")
    plain = project(encoder, vectors)
    centred = plain - plain.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(encoder.table().detach(), expected, rtol=1e-4, atol=1e-5)
    assert {"norm.weight", "norm.bias"} < set(dict(encoder.named_parameters()))
