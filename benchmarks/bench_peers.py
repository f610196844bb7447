"""Measure how fast scenc makes tokens and embeds cells beside its peers, on the CPU.

    pip install --no-deps --target PACKAGES_FOLDER arc-state==0.11.1 transcriptformer==0.6.1 \
        scgpt==0.2.4 omegaconf==2.4.0 antlr4-python3-runtime==4.9.3 geomloss==0.3.1
    export OMP_NUM_THREADS=1
    python benchmarks/bench_peers.py PACKAGES_FOLDER --cells pbmc3k.h5ad --json peers.json

The peers are STATE's embedding model, TranscriptFormer and scGPT. They are installed without what
they ask for: their pins exclude each other and this PyTorch. What they import of it is either in
scenc's own environment (with `uv sync`) or in the command above. A peer that cannot be imported is
left out, with a message.

All have random weights and scenc's preset "paper": 12 layers of width 512, 8 heads, a feed-forward
layer of 1,024, a context of 1,024 tokens. Around that each keeps its own structure: its tokens, its
padding, its gene vectors (STATE 5,120 wide, TranscriptFormer 2,560), its heads. Each runs its own
published code: comments say which. docs/performance.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import platform
import sys
import types
import warnings
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from bench_speed import _processor, _short, peak_memory, seconds_of
from torch import nn
from torch.utils.data import DataLoader

import scenc
from scenc.data import Request, TokenDataset, Tokenizer, open_rows
from scenc.model._presets import get_preset
from scenc.nn import CellTransformer, ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Step = Callable[[], Any]

N_GENES, FEWEST, MOST = 20_000, 2_000, 3_000
WIDTH, N_LAYERS, N_HEADS, D_FEEDFORWARD, CONTEXT = 512, 12, 8, 1024, 1024
# Cells that tokens are made of at once; scenc's own default is 128, scGPT's 64, STATE's 128.
TOKEN_BATCH = 64
DISTRIBUTIONS = ("arc-state", "transcriptformer", "scgpt")


def simulated_cells(n_cells: int) -> sp.csr_matrix:
    """Cells of 2,000 to 3,000 genes each, whose counts have a long tail."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(FEWEST, MOST, n_cells, endpoint=True)
    genes = [np.sort(rng.choice(N_GENES, length, replace=False)) for length in lengths]
    counts = np.ceil(rng.lognormal(0, 1.3, lengths.sum())).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return sp.csr_matrix((counts, np.concatenate(genes), starts), shape=(n_cells, N_GENES))


def with_names(counts: sp.csr_matrix) -> anndata.AnnData:
    """Return counts with names of genes that every peer's vocabulary has."""
    names = [f"GENE{number}" for number in range(counts.shape[1])]
    obs = pd.DataFrame(index=np.arange(counts.shape[0]).astype(str))
    return anndata.AnnData(counts, obs, pd.DataFrame({"ensembl_id": names}, index=names))


# scenc


class Scenc:
    """What scenc does to embed cells, without its threads."""

    name = "scenc"

    def tokens(self, adata: anndata.AnnData, batch_size: int) -> dict[str, Step]:
        """Return the ways to make a list of batches."""
        tokenizer = Tokenizer(CONTEXT)
        everything = np.arange(adata.n_obs)
        genes = np.arange(adata.n_vars)
        # Positions of the batches; as in scenc.model._inference, cells of like length stand
        # together.
        order = np.argsort(-np.diff(adata.X.indptr), kind="stable")

        def alone() -> list[Any]:
            return [
                tokenizer(adata.X, rows, genes)
                for rows in np.split(everything, everything[batch_size::batch_size])
            ]

        def data_set() -> list[Any]:
            dataset = TokenDataset(open_rows(adata.X), genes, tokenizer, by_length=True)
            return [
                dataset[Request(rows, 0)]
                for rows in np.split(order, everything[batch_size::batch_size])
            ]

        return {"its data set": data_set, "its tokeniser alone": alone}

    def networks(self, adata: anndata.AnnData, batch_size: int) -> dict[str, Callable[..., Any]]:
        """Return the ways to embed a batch."""
        config = ModelConfig.from_dict(get_preset("paper", "masked").model)
        return {"as it is": CellTransformer(config, adata.n_vars).eval().embed_cells}


# scGPT


class NoModel(nn.Module):
    """Takes scGPT's batches and embeds nothing, so that only its tokens take time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.batches: list[tuple[torch.Tensor, ...]] = []

    def _encode(
        self,
        genes: torch.Tensor,
        values: torch.Tensor,
        src_key_padding_mask: torch.Tensor,
        **_: Any,
    ) -> torch.Tensor:
        self.batches.append((genes, values, src_key_padding_mask))
        return torch.ones(len(genes), 1, WIDTH)


class ScGPT:
    """scGPT: its tokens, and its `TransformerModel`."""

    name = "scGPT"

    def __init__(self, folder: Path) -> None:
        # Its __init__.py imports all of its training, and torchtext, which is another package to
        # install. The package is therefore made here, and its files are imported one by one.
        # torchtext gives the vocabulary's base class only: a dictionary is the vocabulary here.
        package = types.ModuleType("scgpt")
        package.__path__ = [str(folder / "scgpt")]
        package.logger = logging.getLogger("scGPT")
        vocabularies = types.ModuleType("torchtext.vocab")
        vocabularies.Vocab = object
        torchtext = types.ModuleType("torchtext")
        torchtext.vocab = vocabularies
        of_torchtext = {"torchtext": torchtext, "torchtext.vocab": vocabularies}
        sys.modules.update({"scgpt": package, **of_torchtext})
        self.cell_emb = import_module("scgpt.tasks.cell_emb")
        self.gene_tokenizer = import_module("scgpt.tokenizer.gene_tokenizer")
        self.preprocess = import_module("scgpt.preprocess")
        self.model = import_module("scgpt.model.model")

    # Any will do that no count has.
    settings = {"pad_token": "<pad>", "pad_value": -2, "embsize": WIDTH}

    def tokens(self, adata: anndata.AnnData, batch_size: int) -> dict[str, Step]:
        """Return the ways to make a list of batches: its embedding's, and its fine-tuning's."""
        vocabulary = self._vocabulary(adata)
        gene_ids = np.array([vocabulary[gene] for gene in adata.var_names])

        def embedding() -> list[Any]:
            # scgpt/tasks/cell_emb.py, get_batch_cell_embeddings: what `embed_data` calls. It makes
            # its Dataset, and batches by scgpt/data_collator.py, DataCollator, which bins by
            # scgpt/preprocess.py, binning. As many worker processes as there are cores would make
            # them: none are found, so that the work is done, and seen, in this process.
            taker = NoModel()
            with mock.patch.object(os, "sched_getaffinity", return_value=()), quiet():
                self.cell_emb.get_batch_cell_embeddings(
                    adata,
                    model=taker,
                    vocab=vocabulary,
                    max_length=CONTEXT,
                    batch_size=batch_size,
                    model_configs=self.settings,
                    gene_ids=gene_ids,
                )
            return taker.batches

        def fine_tuning() -> list[Any]:
            # scgpt/preprocess.py, Preprocessor, which bins all cells, and
            # scgpt/tokenizer/gene_tokenizer.py, tokenize_and_pad_batch: what its tutorials call.
            # They normalise before, which is left out.
            copy = anndata.AnnData(adata.X, adata.obs, adata.var)
            with quiet():
                self.preprocess.Preprocessor(use_key="X", normalize_total=False, binning=51)(copy)
            made = self.gene_tokenizer.tokenize_and_pad_batch(
                copy.layers["X_binned"],
                gene_ids,
                max_len=CONTEXT,
                vocab=vocabulary,
                pad_token=self.settings["pad_token"],
                pad_value=self.settings["pad_value"],
            )
            padded = made["genes"] == vocabulary["<pad>"]
            return [(made["genes"], made["values"], padded)]

        return {"embed_data": embedding, "tokenize_and_pad_batch": fine_tuning}

    def networks(self, adata: anndata.AnnData, batch_size: int) -> dict[str, Callable[..., Any]]:
        """Return the ways to embed a batch: with PyTorch's fast path for encoders, and without."""
        vocabulary = self._vocabulary(adata)
        # scgpt/tasks/cell_emb.py, embed_data: its model, with PyTorch's encoder where flash-attn
        # is not installed.
        model = self.model.TransformerModel(
            ntoken=len(vocabulary),
            d_model=WIDTH,
            nhead=N_HEADS,
            d_hid=D_FEEDFORWARD,
            nlayers=N_LAYERS,
            n_cls=1,
            vocab=vocabulary,
            dropout=0.2,
            pad_token=self.settings["pad_token"],
            pad_value=self.settings["pad_value"],
            do_mvc=True,
            use_fast_transformer=True,
        ).eval()

        def embed(batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
            # What get_batch_cell_embeddings does with a batch.
            genes, values, padded = batch
            return model._encode(genes, values, src_key_padding_mask=padded)[:, 0, :]

        def slowly(batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
            torch.backends.mha.set_fastpath_enabled(False)
            try:
                return embed(batch)
            finally:
                torch.backends.mha.set_fastpath_enabled(True)

        return {"as it is": embed, "without PyTorch's fast path": slowly}

    def _vocabulary(self, adata: anndata.AnnData) -> dict[str, int]:
        names = ["<pad>", "<cls>", "<eoc>", *adata.var_names]
        return {name: number for number, name in enumerate(names)}


# TranscriptFormer


class TranscriptFormer:
    """TranscriptFormer: its data set, and its model, without the token of the assay."""

    name = "TranscriptFormer"

    def __init__(self, _: Path) -> None:
        self.dataloader = import_module("transcriptformer.data.dataloader")
        self.dataclasses = import_module("transcriptformer.data.dataclasses")
        self.vocab = import_module("transcriptformer.tokenizer.vocab")
        self.model = import_module("transcriptformer.model.model")
        # It has lowered that of all.
        torch.set_float32_matmul_precision("highest")

    def tokens(self, adata: anndata.AnnData, batch_size: int) -> dict[str, Step]:
        """Return the ways to make a list of batches."""
        vocabulary = self.vocab.build_gene_vocab_from_list(list(adata.var_names))

        def data_set() -> list[Any]:
            # transcriptformer/model/inference.py, run_inference: AnnDataset of
            # transcriptformer/data/dataloader.py, which makes tokens of all cells by process_batch,
            # then a DataLoader of it. Settings are those of cli/conf/inference_config.yaml.
            dataset = self.dataloader.AnnDataset(
                [adata],
                vocabulary,
                max_len=CONTEXT,
                normalize_to_scale=0,
                pad_zeros=True,
                clip_counts=30,
            )
            return list(DataLoader(dataset, batch_size, collate_fn=dataset.collate_fn))

        return {"AnnDataset": data_set}

    def networks(self, adata: anndata.AnnData, batch_size: int) -> dict[str, Callable[..., Any]]:
        """Return the ways to embed a batch."""
        return {
            "as it is": self._network(adata, batch_size, gene_head=1.0),
            "without its gene head": self._network(adata, batch_size, gene_head=0.0),
        }

    def _network(
        self, adata: anndata.AnnData, batch_size: int, gene_head: float
    ) -> Callable[..., Any]:
        vocabulary = self.vocab.build_gene_vocab_from_list(list(adata.var_names))
        # transcriptformer/model/model.py, Transcriptformer.inference: what `predict_step` calls.
        model = self.model.Transcriptformer(
            # The model reads no other.
            data_config=types.SimpleNamespace(clip_counts=30),
            model_config=self.dataclasses.ModelConfig(
                log_counts_eps=1e-6,
                num_heads=N_HEADS,
                num_layers=N_LAYERS,
                model_dim=D_FEEDFORWARD,
                embed_dim=WIDTH,
                dropout=0.1,
                activation="gelu",
                attn_bias=False,
                fw_bias=False,
                mu_link_fn="softmax",
                softcap=10,
                seq_len=CONTEXT,
                aux_len=0,
                block_len=128,
                # Its default: attention is compiled at the first batch.
                compile_block_mask=True,
            ),
            loss_config=self.dataclasses.LossConfig(gene_id_loss_weight=gene_head),
            inference_config=self.dataclasses.InferenceConfig(
                output_keys=["embeddings"],
                batch_size=batch_size,
                obs_keys=[],
                data_files=None,
                load_checkpoint=None,
                output_path=None,
            ),
            gene_vocab_dict=vocabulary,
            emb_matrix=torch.randn(len(vocabulary), 2560),
        ).eval()
        return lambda batch: model.inference(batch)["embeddings"]


# STATE


class State:
    """STATE's embedding model: its sentences of genes, and its network."""

    name = "STATE"

    def __init__(self, folder: Path) -> None:
        self.loader = import_module("state.emb.data.loader")
        self.model = import_module("state.emb.nn.model")
        self.inference = import_module("state.emb.inference")
        self.settings = import_module("omegaconf").OmegaConf.load(
            folder / "state/configs/state-defaults.yaml"
        )
        self.settings.dataset.pad_length = CONTEXT

    def tokens(self, adata: anndata.AnnData, batch_size: int) -> dict[str, Step]:
        """Return the ways to make a list of batches."""
        embeddings = dict.fromkeys(adata.var_names, 0)
        # As many genes as have vectors.
        self.settings.embeddings[self.settings.embeddings.current].num = adata.n_vars

        def sentences() -> list[Any]:
            # state/emb/data/loader.py, create_dataloader: FilteredGenesCounts and
            # VCIDatasetSentenceCollator, as `Inference.encode_adata` asks for them, but without a
            # worker process.
            with quiet():
                dataset = self.loader.FilteredGenesCounts(
                    self.settings, adata=adata, adata_name="cells", protein_embeds=embeddings
                )
            collator = self.loader.VCIDatasetSentenceCollator(
                self.settings,
                valid_gene_mask=dataset.valid_gene_index,
                ds_emb_mapping_inference=dataset.ds_emb_map,
                is_train=False,
                precision=torch.float32,
            )
            return list(DataLoader(dataset, batch_size, collate_fn=collator))

        return {"VCIDatasetSentenceCollator": sentences}

    def networks(self, adata: anndata.AnnData, batch_size: int) -> dict[str, Callable[..., Any]]:
        """Return the ways to embed a batch."""
        # As state/emb/inference.py, Inference.load_model makes it of a checkpoint.
        model = self.model.StateEmbeddingModel(
            token_dim=self.settings.tokenizer.token_dim,
            d_model=WIDTH,
            nhead=N_HEADS,
            d_hid=D_FEEDFORWARD,
            nlayers=N_LAYERS,
            output_dim=WIDTH,
            dropout=0.0,
            cfg=self.settings,
        ).eval()
        vectors = torch.randn(adata.n_vars, self.settings.tokenizer.token_dim)
        model.pe_embedding = nn.Embedding.from_pretrained(vectors)
        inference = self.inference.Inference(cfg=self.settings)
        inference.model = model

        def embed(batch: Any) -> Any:
            # state/emb/inference.py, Inference.encode.
            with quiet():
                return next(inference.encode([batch]))

        return {"as it is": embed}


# What is measured


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Say nothing of progress, and of what is not there."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def find_peers(folder: Path) -> list[Any]:
    """Import scenc's peers from a folder of packages, and say which are missing."""
    sys.path.append(str(folder))
    found: list[Any] = [Scenc()]
    for peer in (ScGPT, TranscriptFormer, State):
        try:
            with quiet():
                found.append(peer(folder))
        except ImportError as error:
            print(f"{peer.name} is left out: {error}", flush=True)
    return found


def measure_tokens(peers: list[Any], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time how counts become tensors: a small part of the cells for the peers, all for scenc."""
    counts = simulated_cells(args.token_cells * 16)
    steps, n_cells = {}, {}
    for peer in peers:
        some = counts if peer.name == "scenc" else counts[: args.token_cells]
        for way, step in peer.tokens(with_names(some), TOKEN_BATCH).items():
            steps[peer.name, way] = step
            n_cells[peer.name, way] = some.shape[0]
    rows = []
    for (name, way), seconds in seconds_of(steps, args.steps).items():
        rows.append(_row("tokens", name, way, n_cells[name, way], seconds))
    return rows


def measure_embedding(peers: list[Any], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the networks on the same real cells, each as its own code batches and pads them."""
    counts = sp.csr_matrix(anndata.read_h5ad(args.cells).X, dtype=np.float32)
    some = np.random.default_rng(0).permutation(counts.shape[0])[: args.n_cells]
    adata = with_names(counts[some])
    n_genes = np.diff(adata.X.indptr)
    steps, one_batch = {}, {}
    for peer in peers:
        # scenc takes up to 128 cells, and puts those of like length together.
        size = 128 if peer.name == "scenc" else args.batch
        make = next(iter(peer.tokens(adata, size).values()))
        first = next(iter(peer.tokens(adata[: args.batch], args.batch).values()))
        batches, first_batch = make(), first()[0]
        for way, network in peer.networks(adata, args.batch).items():
            steps[peer.name, way] = lambda network=network, batches=batches: _embed(
                network, batches
            )
            one_batch[peer.name, way] = lambda network=network, batch=first_batch: _embed(
                network, [batch]
            )
    rows = []
    for (name, way), seconds in seconds_of(steps, args.steps).items():
        row = _row("embedding", name, way, args.n_cells, seconds)
        row["memory_gb_of_a_batch"] = peak_memory(one_batch[name, way])
        row["mean_genes"], row["most_genes"] = float(n_genes.mean()), int(n_genes.max())
        rows.append(row)
    return rows


def _embed(network: Callable[..., Any], batches: list[Any]) -> None:
    with torch.no_grad():
        for batch in batches:
            network(batch)


def _row(what: str, name: str, way: str, n_cells: int, seconds: list[float]) -> dict[str, Any]:
    return {
        "what": what,
        "package": name,
        "way": way,
        "cells": n_cells,
        "cells_per_s": n_cells / float(np.median(seconds)),
        "cells_per_s_least": n_cells / max(seconds),
        "cells_per_s_most": n_cells / min(seconds),
    }


def write(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table, and write them as JSON with the machine and all versions."""
    rows = [{k: _short(v) for k, v in row.items()} for row in rows]
    print(pd.DataFrame(rows).to_string(index=False), flush=True)
    installed = {
        one.metadata["Name"]: one.version for one in distributions(path=[str(args.packages)])
    }
    machine = {
        "device": _processor(),
        "threads": torch.get_num_threads(),
        "seconds": "of the processor" if torch.get_num_threads() == 1 else "of the day",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "scenc": scenc.__version__,
        **{name: installed.get(name) for name in DISTRIBUTIONS},
    }
    if args.json is not None:
        args.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", type=Path, help="folder that the peers are installed in")
    parser.add_argument("--cells", required=True, help="h5ad file with counts of real cells in X")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--steps", type=int, default=3, help="times that each is measured")
    parser.add_argument("--token-cells", type=int, default=256, help="that peers make tokens of")
    parser.add_argument("--n-cells", type=int, default=32, help="that are embedded")
    parser.add_argument("--batch", type=int, default=16, help="cells that peers embed at once")
    parser.add_argument("--only", choices=["tokens", "embedding"], help="measure one of the two")
    args = parser.parse_args()
    torch.manual_seed(0)
    # Peers tell of each file that they read.
    logging.disable(logging.INFO)
    peers = find_peers(args.packages)
    rows: list[dict[str, Any]] = []
    for what, measure in (("tokens", measure_tokens), ("embedding", measure_embedding)):
        if args.only in (None, what):
            rows += measure(peers, args)
            write(args, rows)


if __name__ == "__main__":
    main()
