from __future__ import annotations

import pytest

ESM_TOKENS = [
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_esm(tmp_path_factory):
    """An ESM-2 with random weights, as a local folder."""
    import torch

    reason = "needs transformers, of the extra scenc[esm]"
    transformers = pytest.importorskip("transformers", reason=reason)
    folder = tmp_path_factory.mktemp("tiny_esm")
    (folder / "vocab.txt").write_text("\n".join(ESM_TOKENS))
    config = transformers.EsmConfig(
        vocab_size=len(ESM_TOKENS),
        pad_token_id=1,
        mask_token_id=32,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=1026,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    transformers.EsmModel(config, add_pooling_layer=False).save_pretrained(folder)
    transformers.EsmTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder
