"""The card of a shared model: what it is, what it was trained on, how to use it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader

from scenc import __version__
from scenc.genes import harmonize
from scenc.model._overview import best_validation, count_weights, data_facts
from scenc.tasks import EmbeddingCheck

if TYPE_CHECKING:
    from scenc.genes import GeneMap
    from scenc.model._persistence import ModelState
    from scenc.nn import CellTransformer

# Rows of the training curve in a card.
_N_POINTS = 8
# Share of the genes that must be human for the model to be called so.
_LEAST_KNOWN = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What only the author of a model knows of it.

    Attributes
    ----------
    license
        Identifier of the licence, such as ``"cc-by-4.0"``; ``None``: none is given, and nobody may
        use the model without asking.
    description
        Text in Markdown: what the model is for, what it was trained on.
    organism
        Such as ``"human"``; ``None``: what the gene names tell.
    tissues
        Tissues that the cells are from.
    dataset
        Name of the data that the scores are of.
    scores
        Measured scores: what `scenc.Model.check`, `scenc.metrics.integration` or
        `scenc.metrics.knn_classification` return, or numbers by name.
    """

    license: str | None = None
    description: str = ""
    organism: str | None = None
    tissues: tuple[str, ...] = ()
    dataset: str | None = None
    scores: Any = None

    def numbers(self) -> dict[str, float]:
        """Return the scores that are defined, by name.

        Raises
        ------
        TypeError
            They are neither a report nor numbers by name.
        """
        found = self.scores.to_dict() if hasattr(self.scores, "to_dict") else self.scores
        if found is None:
            return {}
        numeric = isinstance(found, Mapping) and all(
            isinstance(value, int | float | np.number) for value in found.values()
        )
        if not numeric:
            raise TypeError(
                "scores are what model.check(), scenc.metrics.integration or "
                f"scenc.metrics.knn_classification return, or numbers by name; got {self.scores!r}."
            )
        return {str(name): float(value) for name, value in found.items() if math.isfinite(value)}


def genes_table(state: ModelState) -> str:
    """Return the genes of a model as a table: name, whether in the vocabulary, share of counts."""
    genes = [*state.vocabulary, *state.counted]
    in_vocabulary = [True] * len(state.vocabulary) + [False] * len(state.counted)
    table = pd.DataFrame({"gene": genes, "in_vocabulary": in_vocabulary})
    if state.count_shares is not None:
        table["count_share"] = state.count_shares
    text: str = table.to_csv(sep="\t", index=False, float_format="%.6g", lineterminator="\n")
    return text


def write_card(
    state: ModelState,
    network: CellTransformer,
    name: str,
    where: str,
    facts: CardFacts,
    *,
    in_repository: bool,
) -> str:
    """Return a model's card: YAML that machines read, and Markdown.

    Parameters
    ----------
    state, network
        The model.
    name
        What it is called.
    where
        What `scenc.Model.from_pretrained` is to be given: a repository or a folder.
    facts
        What its author says of it.
    in_repository
        Whether `where` is a repository, which has revisions.
    """
    genes = harmonize(state.vocabulary)
    organism = facts.organism or _organism(genes)
    about = data_facts(state.registry)
    numbers = facts.numbers()
    dataset = facts.dataset or "data that have no name here"
    environment = Environment(
        loader=PackageLoader("scenc.model", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    return environment.get_template("card.md.jinja").render(
        header=_yaml(_metadata(state, name, organism, numbers, dataset, facts)),
        name=name,
        where=where,
        in_repository=in_repository,
        facts=facts,
        organism=organism,
        about=about,
        config=state.config,
        preset=state.preset,
        n_weights=count_weights(network),
        n_genes=len(state.vocabulary),
        n_counted=len(state.counted),
        n_known=genes.n_mapped,
        first_genes=", ".join(state.vocabulary[:5]),
        layer=_layer(state.registry),
        n_epochs=state.n_epochs,
        n_steps=state.n_steps,
        curve=_curve(state),
        best=best_validation(state.history),
        settings=_yaml(
            {
                "model": asdict(state.config),
                "training": asdict(state.train_config) if state.train_config else None,
            }
        ),
        numbers=numbers,
        dataset=dataset,
        check=facts.scores if isinstance(facts.scores, EmbeddingCheck) else None,
        versions=_versions(),
    )


def _metadata(
    state: ModelState,
    name: str,
    organism: str | None,
    numbers: Mapping[str, float],
    dataset: str,
    facts: CardFacts,
) -> dict[str, Any]:
    """Return what machines read: the tags of scvi-tools' models, and some of our own."""
    about, versions = data_facts(state.registry), _versions()
    tags = ["biology", "genomics", "single-cell", "model_cls_name:Model"]
    tags += [f"scvi_version:{versions['scvi-tools']}", f"anndata_version:{versions['anndata']}"]
    tags += ["modality:rna", f"annotated:{about.labels_key is not None}"]
    tags += [f"tissue:{tissue}" for tissue in facts.tissues]
    tags += [f"organism:{organism}"] if organism else []
    tags += [
        f"gene_encoder:{state.config.gene_encoder}",
        f"expression_encoder:{state.config.expression_encoder}",
        f"objective:{state.config.objective}",
        f"scenc_version:{versions['scenc']}",
    ]
    metadata: dict[str, Any] = {} if facts.license is None else {"license": facts.license}
    metadata |= {"library_name": "scenc", "pipeline_tag": "feature-extraction", "tags": tags}
    if numbers:
        result = {
            "task": {"type": "feature-extraction", "name": "Embedding of cells"},
            "dataset": {"type": "anndata", "name": dataset},
            "metrics": [
                {"type": metric, "name": metric.replace("_", " "), "value": round(value, 6)}
                for metric, value in numbers.items()
            ],
        }
        metadata["model-index"] = [{"name": name, "results": [result]}]
    return metadata


def _organism(genes: GeneMap) -> str | None:
    """Return the organism that the gene names tell, if they do."""
    if genes.species == "human":
        return "human" if genes.n_mapped >= _LEAST_KNOWN * len(genes) else None
    return None if genes.species == "not human" else genes.species


def _layer(registry: Mapping[str, Any]) -> str | None:
    arguments = registry["setup_args"]
    layer: str | None = arguments.get("layer", arguments.get("rna_layer"))
    return layer


def _curve(state: ModelState) -> list[tuple[str, ...]]:
    """Return some points of the training curve: step, training loss, validation loss."""
    best = best_validation(state.history)
    if not state.history or "train_loss" not in state.history:
        return []
    train = state.history["train_loss"].iloc[:, 0].dropna()
    measured = train if best is None else state.history[best[0]].iloc[:, 0].dropna()
    places = np.unique(np.linspace(0, len(measured) - 1, _N_POINTS).astype(int))
    steps = train.index.to_numpy()
    rows: list[tuple[str, ...]] = []
    for place in places:
        step = int(measured.index[place])
        # Losses of single batches scatter: shown is the mean since a tenth of the steps before.
        window = (steps <= step) & (steps > step - max(len(steps) // 10, 1))
        loss = f"{train.to_numpy()[window].mean():.4g}" if window.any() else "-"
        rows.append((f"{step:,}", loss, "-" if best is None else f"{measured.iloc[place]:.4g}"))
    return rows


def _versions() -> dict[str, str]:
    packages = ("anndata", "scvi-tools", "torch")
    return {"scenc": __version__, **{name: version(name) for name in packages}}


def _yaml(values: Mapping[str, Any]) -> str:
    plain = {key: _listed(value) for key, value in values.items()}
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
    return text.rstrip()


def _listed(value: Any) -> Any:
    """Turn tuples into lists, which YAML knows."""
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
