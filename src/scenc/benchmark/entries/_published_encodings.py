"""Token recipes of published systems, as settings of scenc's encoders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scenc._arguments import applicable, choose
from scenc.benchmark.entries._encodings import Encoding

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True)
class Recipe:
    """How a system makes tokens.

    Attributes
    ----------
    gene_encoder, expression_encoder
        The encoders of scenc that it is a case of.
    model
        Their settings.
    mlp_of_width
        Whether the hidden layer of its expression encoder is as wide as a token.
    """

    gene_encoder: str
    expression_encoder: str
    model: Mapping[str, Any] = field(default_factory=dict)
    mlp_of_width: bool = False


# What each system does beside this, and what it does differently, stands in the table of
# docs/encodings.md. Forms and numbers are those of the code: the classes named here.
RECIPES: dict[str, Recipe] = {
    # scBERT: Gene2VecPositionalEmbedding is not trained; preprocess.py takes log1p of base 2,
    # SCDataset clips it to 5 and cuts the fraction off.
    "scBERT": Recipe(
        "protein",
        "log",
        {
            "protein_projection": "fixed",
            "protein_output": "matched",
            "protein_missing": "drop",
            "log_input": "scaled",
            "max_log_bin": 5,
        },
    ),
    # scGPT: GeneEncoder and ContinuousValueEncoder of the bin's number, n_bins=51; Tahoe-x1 has
    # the same, with use_norm=True for both and activation=relu.
    "scGPT and Tahoe-x1": Recipe(
        "learned",
        "raw",
        {"expression_input": "quantile_bins", "encoder_norm": True, "activation": "relu"},
        mlp_of_width=True,
    ),
    # scFoundation: AutoDiscretizationEmbedding2 with bin_num=100, bin_alpha=1; two tokens of total
    # counts.
    "scFoundation": Recipe(
        "learned",
        "soft",
        {
            "n_bins": 100,
            "expression_hidden": 100,
            "soft_slope": 0.1,
            "soft_residual": 1.0,
            "depth_token": True,
        },
    ),
    # STATE's SE: Linear, LayerNorm, SiLU of ESM-2 vectors of length 1, times sqrt(d); 10 soft bins.
    "STATE": Recipe(
        "protein",
        "soft",
        {
            "protein_input": "l2",
            "protein_projection": "linear",
            "protein_output": "silu",
            "protein_missing": "zero",
            "expression_input": "log_share",
            "n_bins": 10,
            "expression_hidden": 512,
        },
    ),
    # Heimdall: IdentityFg and TwoLayerNN (fg=identity, fe=2nn).
    "Heimdall": Recipe("learned", "raw", {"activation": "relu"}, mlp_of_width=True),
}


def published_encodings(
    preset: str = "small",
    *,
    names: Collection[str] | None = None,
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    objective: str = "masked",
) -> list[Encoding]:
    """Return the tokens of published systems, each before the same transformer and objective.

    Only how genes and their expression become vectors is the systems' own. The network behind, its
    size, the masked target x~, the draw of expressed genes and the training are the benchmark's,
    the same as for `grid`, so that what differs is the encoding. Entries are controls: they are
    compared with the encodings that they are variants of, and left out of the paper's comparisons.

    - ``"scBERT"``: gene vectors that are not trained, and floor(log2(1 + x)) of counts scaled to
      10,000, at most 5. Any gene vectors may be given in the place of gene2vec; wider ones than a
      token are reduced to their principal components, and all are scaled to the spread of the bins'
      vectors. Genes that are not expressed have no tokens here.
    - ``"scGPT and Tahoe-x1"``: an MLP of the number of the quantile bin, and a layer normalisation
      of both vectors. Equal counts share the lowest of their bins, as in Tahoe-x1; scGPT draws one
      at random for each gene.
    - ``"scFoundation"``: 100 soft bins with a residual, and a token of the cell's depth; it has one
      more, of the depth to predict.
    - ``"STATE"``: a linear layer of gene vectors of length 1, layer normalisation, SiLU; 10 soft
      bins of the share in the cell's logged counts. Its tokens of the cell and of the data set are
      left out.
    - ``"Heimdall"``: a trained table, and an MLP of x~ as wide as a token. With its configuration
      as it is delivered it gives Geneformer's order and no expression at all.

    Geneformer is not among them: it has no vector of expression. Genes stand in the order of their
    counts by each gene's median, and their place is all that the network sees. A place is one among
    those of all genes of a cell: it depends on which genes are drawn, and to hide a gene's
    expression is to move the others. Neither fits masked expression, where a token's value is a
    function of its own count and its cell.

    Parameters
    ----------
    preset
        As in `scenc.Model`.
    names
        Which systems; ``None``: all.
    model
        Settings that all share, such as ``context``; those of the recipe come before them.
    training, objective
        As in `Encoding`.

    Raises
    ------
    ValueError
        A system or a preset is unknown.

    Examples
    --------
    >>> from scenc.benchmark import grid, published_encodings
    >>> [encoding.title() for encoding in published_encodings()]
    ['scBERT', 'scGPT and Tahoe-x1', 'scFoundation', 'STATE', 'Heimdall']
    >>> encodings = [*grid(), *published_encodings(names=["STATE"])]
    """
    from scenc.model import get_preset

    shared = dict(model or {})
    width = {**get_preset(preset, objective).model, **shared}["d_model"]
    chosen = list(RECIPES) if names is None else [choose(n, RECIPES, "names") for n in names]
    return [
        _encoding(name, RECIPES[name], width, preset, shared, dict(training or {}), objective)
        for name in chosen
    ]


def _encoding(
    name: str,
    recipe: Recipe,
    width: int,
    preset: str,
    shared: dict[str, Any],
    training: dict[str, Any],
    objective: str,
) -> Encoding:
    settings = {**recipe.model, "gene_init": "random"}
    if recipe.mlp_of_width:
        settings["expression_hidden"] = width
    return Encoding(
        recipe.gene_encoder,
        recipe.expression_encoder,
        preset,
        {**applicable(shared, recipe.gene_encoder, recipe.expression_encoder), **settings},
        training,
        objective,
        name,
        "control",
    )
