"""What must not happen without a word."""

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from scenc import Model


def test_counts_that_were_normalised_after_setup_are_noticed(adata, make_model, train):
    model = train(make_model(adata), max_epochs=1)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    with pytest.raises(ValueError, match="looks log-normalised"):
        model.get_latent_representation()
    with pytest.raises(ValueError, match="looks log-normalised"):
        train(model)


def test_an_entry_that_stands_twice_is_one_value(trained, make_adata):
    dense = trained.adata.X.toarray()[:5]
    whole = sp.csr_matrix(dense)
    # Each count as two entries of the same row and column.
    halves = sp.csr_matrix(
        (np.repeat(whole.data / 2, 2), np.repeat(whole.indices, 2), whole.indptr * 2),
        shape=whole.shape,
    )
    assert not halves.has_canonical_format
    query = make_adata(halves)
    z = trained.get_latent_representation(query)
    np.testing.assert_allclose(z, trained.get_latent_representation(indices=range(5)), atol=1e-5)
    assert halves.nnz == 2 * whole.nnz, "the user's matrix stays as it is"


@pytest.mark.parametrize("verb", ["load_registry", "convert_legacy_save"])
def test_inherited_ways_to_unpickle_are_closed(verb, tmp_path):
    with pytest.raises(NotImplementedError):
        getattr(Model, verb)(tmp_path)


def test_vectors_for_names_of_any_kind_are_found_by_name(make_counts, make_adata, make_model):
    names = pd.Index([f"gene{i}" for i in range(60)])
    adata = make_adata(sp.csr_matrix(make_counts()), var=pd.DataFrame(index=names))
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    frame = pd.DataFrame(vectors, index=names).iloc[::-1]
    model = make_model(adata, gene_encoder="protein", protein_embeddings=frame)
    np.testing.assert_array_equal(model.module.gene_encoder.vectors.numpy(), vectors)


def test_a_failed_training_leaves_its_curve(adata, make_model, train):
    from lightning.pytorch import Callback

    from scenc.train import NonFiniteLossError

    class Poison(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                pl_module.network.mask_token.data.fill_(np.nan)

    model = make_model(adata)
    with pytest.raises(NonFiniteLossError) as caught:
        train(model, callbacks=[Poison()])
    losses = model.history["train_loss"]["train_loss"]
    assert losses.index.tolist() == list(range(caught.value.step))
    assert np.isfinite(losses).all()
    assert model.is_trained, "the first epoch passed its validation"
    assert np.isfinite(model.get_latent_representation()).all()
