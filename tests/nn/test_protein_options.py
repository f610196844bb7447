"""What keeps the protein path stable: input scaling and initial spread."""

import numpy as np
import pytest
import torch

from scenc.nn import ProteinGeneEncoder


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(0)
    scale = torch.rand(8, generator=generator) * 10
    return torch.randn(40, 8, generator=generator) * scale + 3


@pytest.fixture
def known():
    mask = torch.ones(40, dtype=torch.bool)
    mask[[3, 17]] = False
    return mask


def test_plain_leaves_the_vectors_as_they_are(vectors):
    encoder = ProteinGeneEncoder.from_vectors(vectors, 16)
    torch.testing.assert_close(encoder.vectors, vectors)


def test_l2_gives_each_vector_a_root_mean_square_of_one(vectors):
    encoder = ProteinGeneEncoder.from_vectors(vectors, 16, input_scale="l2")
    stored = encoder.vectors.numpy()
    np.testing.assert_allclose(np.sqrt((stored**2).mean(axis=1)), 1, rtol=1e-5)
    unit = vectors.numpy() / np.linalg.norm(vectors.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(stored / np.sqrt(8), unit, rtol=1e-5)


def test_standardize_ignores_genes_without_a_vector(vectors, known):
    vectors[~known] = 1e4
    encoder = ProteinGeneEncoder.from_vectors(
        vectors, 16, has_vector=known, input_scale="standardize"
    )
    stored = encoder.vectors.numpy()[known.numpy()]
    np.testing.assert_allclose(stored.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(stored.std(axis=0), 1, rtol=1e-4)
    assert not encoder.vectors[~known].any()


def test_float16_vectors_stay_float16(vectors):
    encoder = ProteinGeneEncoder.from_vectors(vectors.half(), 16, input_scale="l2")
    assert encoder.vectors.dtype == torch.float16


@pytest.mark.parametrize("std", [1.0, 0.02])
def test_matched_starts_with_the_spread_of_a_learned_table(vectors, known, std):
    encoder = ProteinGeneEncoder.from_vectors(
        vectors, 16, has_vector=known, output="matched", init_std=std
    )
    with torch.no_grad():
        table = encoder.eval().table()[known].numpy()
    np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-5 * max(1, std))
    np.testing.assert_allclose(np.sqrt((table**2).mean()), std, rtol=1e-4)


def test_layer_norm_follows_the_mlp(vectors):
    encoder = ProteinGeneEncoder.from_vectors(vectors, 16, output="layer_norm").eval()
    with torch.no_grad():
        expected = torch.nn.functional.layer_norm(encoder.mlp(vectors), (16,))
        torch.testing.assert_close(encoder.table(), expected)


def test_the_mlp_runs_once_a_step_over_distinct_genes_and_never_again_in_eval(vectors, monkeypatch):
    encoder = ProteinGeneEncoder.from_vectors(vectors, 16)
    rows = []
    encoder.mlp.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    genes = torch.tensor([[1, 2, 2, 5], [5, 5, 1, 9]])
    encoder.train()
    encoder(genes)
    assert rows == [4]
    encoder.eval()
    with torch.no_grad():
        first = encoder(genes)
        encoder(genes)
        encoder(genes.flip(0))
    assert rows == [4, 40]
    encoder.train()
    with torch.no_grad():
        encoder.mlp[-1].bias.add_(1)
    encoder.eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(genes), first + 1)
    assert rows == [4, 40, 40]


def test_a_step_makes_the_projected_table_stale_whoever_sets_the_mode(vectors):
    encoder = ProteinGeneEncoder.from_vectors(vectors, 16)
    genes = torch.tensor([[1, 2, 5]])
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1)
    for _ in range(3):
        encoder.eval()
        with torch.no_grad():
            torch.testing.assert_close(encoder(genes), encoder.norm(encoder.mlp(vectors[genes])))
        # As Lightning does after a validation.
        for module in encoder.modules():
            module.training = True
        encoder(genes).square().sum().backward()
        optimizer.step()


def test_fixed_vectors_wider_than_a_token_are_principal_components(vectors, known):
    from sklearn.decomposition import PCA

    encoder = ProteinGeneEncoder.from_vectors(
        vectors, 3, has_vector=known, missing="zero", projection="fixed"
    )
    expected = PCA(3, svd_solver="full").fit_transform(vectors[known].numpy())
    found = encoder.table()[known].numpy()
    # Components have no sign of their own.
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, rtol=1e-3, atol=1e-3)
    assert not encoder.table()[~known].any()
    # Nothing of it is trained.
    assert not any(weight.requires_grad for weight in encoder.parameters())
    again = ProteinGeneEncoder.from_vectors(
        vectors, 3, has_vector=known, missing="zero", projection="fixed"
    )
    assert torch.equal(again.vectors, encoder.vectors)


def test_fixed_vectors_that_fit_stay_as_they_are(vectors, known):
    same = ProteinGeneEncoder.from_vectors(vectors, 8, projection="fixed")
    torch.testing.assert_close(same.table(), vectors)
    wider = ProteinGeneEncoder.from_vectors(vectors, 10, projection="fixed")
    torch.testing.assert_close(wider.table()[:, :8], vectors)
    assert not wider.table()[:, 8:].any()
    with pytest.raises(ValueError, match="have d_model=8 dimensions, not 5"):
        ProteinGeneEncoder(4, 5, 8, projection="fixed")
    with pytest.raises(TypeError, match="cannot start at others"):
        same.start_at(vectors)


def test_fixed_vectors_can_be_matched_to_a_learned_table(vectors, known):
    encoder = ProteinGeneEncoder.from_vectors(
        vectors, 3, has_vector=known, missing="zero", projection="fixed", output="matched",
        init_std=0.5,
    )  # fmt: skip
    table = encoder.table()[known].numpy()
    np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.sqrt((table**2).mean()), 0.5, rtol=1e-4)
    assert not encoder.vectors[~known].any()


@torch.no_grad()
def test_a_linear_layer_with_silu_is_states(vectors):
    """SiLU(LayerNorm(Linear(E / |E|))) sqrt(d)."""
    encoder = ProteinGeneEncoder.from_vectors(
        vectors, 16, input_scale="l2", projection="linear", output="silu"
    )
    unit = vectors.numpy() / np.linalg.norm(vectors.numpy(), axis=1, keepdims=True)
    # `l2` makes the root mean square 1, not the length.
    linear = unit * np.sqrt(8) @ encoder.mlp.weight.numpy().T + encoder.mlp.bias.numpy()
    normed = (linear - linear.mean(axis=1, keepdims=True)) / np.sqrt(
        linear.var(axis=1, keepdims=True) + 1e-5
    )
    expected = normed / (1 + np.exp(-normed)) * 4
    np.testing.assert_allclose(encoder.eval().table().numpy(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_linear_layer_starts_at_vectors_it_can_give(vectors):
    encoder = ProteinGeneEncoder.from_vectors(vectors, 5, projection="linear")
    aim = vectors @ torch.randn(8, 5, generator=torch.Generator().manual_seed(1)) + 2
    encoder.start_at(aim)
    assert (encoder.eval().table() - aim).std() < 0.05 * aim.std()
