from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args, get_type_hints

from scenc._arguments import choose, refuse_unknown

GeneEncoderName = Literal["learned", "protein"]
ExpressionEncoderName = Literal["raw", "hard", "log", "soft"]
ObjectiveName = Literal["masked", "contrastive", "generative"]

# Options that version 0.1.0 did not have.
_LATER = ("soft_slope", "soft_residual", "expression_input", "encoder_norm", "depth_token",
          "protein_projection")  # fmt: skip
# scGPT has 51 bins, of which one is for zero.
_N_QUANTILE_BINS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Shape of a network, and what its encoders take as input.

    Equation numbers are those of the paper.

    Attributes
    ----------
    gene_encoder
        ``"learned"``: a trained table (eq. 11). ``"protein"``: a trained MLP of fixed, pretrained
        gene vectors (eq. 12).
    expression_encoder
        ``"raw"``: an MLP of x~ (eq. 13). ``"hard"``: quantile bins (eq. 14-15). ``"log"``: bins of
        log2 (eq. 16-17). ``"soft"``: a trained mixture of bins (eq. 18-19).
    d_model, n_layers, n_heads, d_feedforward, dropout
        Size of the transformer (eq. 8).
    context
        Largest number of genes a cell keeps (eq. 3); ``None`` keeps all.
    target_sum
        c_norm of eq. 2.
    norm
        Layer normalisation before (``"pre"``) or after (``"post"``) each sub-layer.
    activation
        Of the feed-forward layers and MLPs.
    expression_hidden
        Hidden width of the raw and soft expression encoders.
    n_bins
        Number of bins of the hard or soft encoder; ``None``: 50 for hard, 20 for soft.
    hard_edges
        Where hard bins end: at the ``"cell"``'s own quantiles of its non-zero values, at
        ``"global"`` quantiles of x~ over the training cells, or ``"uniform"`` from 0 to the
        largest possible x~.
    log_input
        Input of the log bins: raw ``"counts"`` (as eq. 16 says), ``"normalized"`` x~, or counts
        scaled to the library size `target_sum` but not logged (``"scaled"``, as scBERT).
    max_log_bin
        B_max of eq. 16.
    soft_bias
        Whether the two layers of eq. 18 have biases. Without them LeakyReLU of a positive number
        is linear, and the soft bins lose their expressiveness.
    soft_slope
        Slope of eq. 18's LeakyReLU below 0.
    soft_residual
        Weight with which the hidden layer of eq. 18 is added to the logits of the mixture, as in
        scFoundation. Not 0 only if `expression_hidden` is `n_bins`.
    expression_input
        What the raw and the soft encoder read of a value: x~ (``"normalized"``); the number of its
        bin, 1 to 50, among the quantiles of the cell's non-zero values (``"quantile_bins"``, as
        scGPT and Tahoe-x1); or 100 log(1 + x) divided by the sum of log(1 + x) over the cell
        (``"log_share"``, as STATE).
    encoder_norm
        Whether a trained layer normalisation follows the expression encoder, and the learned table
        of genes, as in scGPT and Tahoe-x1. For the protein encoder `protein_output` says that.
    depth_token
        Whether a cell has one more token beside its genes', which holds the logarithm of its
        library size. Genes attend to it; it is neither masked nor part of the embedding's mean.
    protein_hidden
        Hidden width of the protein encoder's MLP.
    protein_input
        Input of the protein encoder's MLP: the vectors as they are (``"plain"``, as eq. 12
        says), each scaled to a root mean square of 1 (``"l2"``, as STATE does up to a constant),
        or each dimension to mean 0 and standard deviation 1 over the genes (``"standardize"``).
    protein_projection
        What turns the vectors into gene vectors: an ``"mlp"`` (eq. 12), one trained ``"linear"``
        layer (as STATE), or nothing that is trained (``"fixed"``, as scBERT and Heimdall): the
        vectors themselves, or their first `d_model` principal components where they are wider.
    protein_output
        How the projection is scaled: not at all (``"plain"``), once before training, to the
        mean 0 and the standard deviation `init_std` of a learned table (``"matched"``), by a
        trained layer normalisation (``"layer_norm"``, as UCE does), or by one that SiLU and the
        factor sqrt(d_model) follow (``"silu"``, as STATE does).
    protein_missing
        Treatment of genes without a pretrained vector: ``"learned"``, each gets a trained vector;
        ``"zero"``, each gets the MLP's output for a zero vector; ``"drop"``, they are left out of
        the vocabulary.
    init_std
        Standard deviation of the initial entries of all learned tables.
    objective
        Training objective: ``"masked"``, the paper's masked expression alone (eq. 10),
        ``"contrastive"``, which also embeds views of a cell and of its neighbours alike
        (`scenc.train.ContrastivePlan`), or ``"generative"``, which decodes a cell's counts from its
        embedding (`scenc.train.GenerativePlan`).
    likelihood
        Distribution of counts under the generative objective: the negative binomial (``"nb"``), or
        one with more zeros (``"zinb"``).
    decoder_hidden
        Hidden width of the generative objective's decoder.
    n_top_genes
        Size of the vocabulary: the most variable genes of the training cells; ``None``: all genes.
    gene_init
        Initial gene vectors: ``"random"``, or ``"spectral"``, the loadings of the training cells'
        principal components (the protein encoder is fitted to them by least squares).
    residual_init
        ``"zero"``: expression vectors and the outputs of the blocks are zero at first, so that a
        token is its gene's vector. ``"random"``: PyTorch's defaults.
    pooling
        A cell's embedding: the ``"mean"`` of the last layer's tokens (the paper's), or their sum
        weighted by x~ (``"expression"``), before the final norm, minus the mean of that sum over
        the training cells before training, divided by the root of the number of genes. With
        spectral gene vectors and zero residuals the untrained embedding is the cell's principal
        components.
    seed
        Seed of the initial weights, the split, the order of cells, all draws and dropout.

    Examples
    --------
    >>> config = scenc.nn.ModelConfig(d_model=128, n_layers=4, n_heads=4)
    >>> config.d_model
    128
    """

    gene_encoder: GeneEncoderName = "learned"
    expression_encoder: ExpressionEncoderName = "soft"
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    d_feedforward: int = 128
    dropout: float = 0.0
    context: int | None = 256
    target_sum: float = 1e4
    norm: Literal["pre", "post"] = "pre"
    activation: Literal["gelu", "relu"] = "gelu"
    expression_hidden: int = 512
    n_bins: int | None = None
    hard_edges: Literal["cell", "global", "uniform"] = "cell"
    log_input: Literal["counts", "normalized", "scaled"] = "counts"
    max_log_bin: int = 10
    soft_bias: bool = True
    soft_slope: float = 0.01
    soft_residual: float = 0.0
    expression_input: Literal["normalized", "quantile_bins", "log_share"] = "normalized"
    encoder_norm: bool = False
    depth_token: bool = False
    protein_hidden: int = 512
    protein_input: Literal["plain", "l2", "standardize"] = "plain"
    protein_projection: Literal["mlp", "linear", "fixed"] = "mlp"
    protein_output: Literal["plain", "matched", "layer_norm", "silu"] = "plain"
    protein_missing: Literal["learned", "zero", "drop"] = "learned"
    init_std: float = 1.0
    objective: ObjectiveName = "masked"
    likelihood: Literal["nb", "zinb"] = "nb"
    decoder_hidden: int = 128
    n_top_genes: int | None = None
    gene_init: Literal["random", "spectral"] = "random"
    residual_init: Literal["random", "zero"] = "random"
    pooling: Literal["mean", "expression"] = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            options = get_args(hints[field.name])
            if options and all(isinstance(option, str) for option in options):
                choose(getattr(self, field.name), options, field.name)
        for name in ("d_model", "n_layers", "n_heads", "d_feedforward", "expression_hidden",
                     "protein_hidden", "max_log_bin", "decoder_hidden"):  # fmt: skip
            _require_positive_int(name, getattr(self, name))
        for name in ("context", "n_bins", "n_top_genes"):
            if getattr(self, name) is not None:
                _require_positive_int(name, getattr(self, name))
        if self.d_model % self.n_heads:
            raise ValueError(
                f"d_model ({self.d_model}) must be a multiple of n_heads ({self.n_heads})."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}.")
        if not self.target_sum > 0:
            raise ValueError(f"target_sum must be positive, got {self.target_sum}.")
        unequal = self.expression_hidden != self.n_expression_bins
        if self.expression_encoder == "soft" and self.soft_residual and unequal:
            raise ValueError(
                "soft_residual adds the hidden layer to the bins' logits, so that there must be as "
                f"many: set expression_hidden={self.n_expression_bins} (it is "
                f"{self.expression_hidden})."
            )
        if self.gene_init == "spectral" and self._cannot_start_at_vectors:
            raise ValueError(
                f"gene_init='spectral' cannot apply beside {self._cannot_start_at_vectors}: gene "
                "vectors cannot be given there. Use gene_init='random'."
            )

    @property
    def _cannot_start_at_vectors(self) -> str:
        """The setting by which gene vectors cannot start at given ones; empty if there is none."""
        if self.gene_encoder == "learned":
            return "encoder_norm=True" if self.encoder_norm else ""
        return "protein_projection='fixed'" if self.protein_projection == "fixed" else ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without the later options where these are at their defaults.

        What tells stored results and checkpoints from others thus stays as it was before there
        were these options.
        """
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in _LATER or getattr(self, field.name) != field.default
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from plain values, refusing unknown names."""
        refuse_unknown(values, (field.name for field in fields(cls)), "model argument")
        return cls(**values)

    @property
    def n_expression_bins(self) -> int:
        """Number of bins of the chosen expression encoder, 0 if it has none."""
        if self.n_bins and self.expression_encoder in ("hard", "soft"):
            return self.n_bins
        default = {"raw": 0, "hard": 50, "log": self.max_log_bin + 1, "soft": 20}
        return default[self.expression_encoder]

    @property
    def quantile_bins(self) -> int:
        """Number of per-cell quantile bins the tokens must carry, 0 if none."""
        if self.expression_encoder == "hard" and self.hard_edges == "cell":
            return self.n_expression_bins
        return _N_QUANTILE_BINS if self._reads("quantile_bins") else 0

    @property
    def log_shares(self) -> bool:
        """Whether the tokens must carry each value's share of its cell's logged counts."""
        return self._reads("log_share")

    def _reads(self, kind: str) -> bool:
        return self.expression_encoder in ("raw", "soft") and self.expression_input == kind


def _require_positive_int(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
