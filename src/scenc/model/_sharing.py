"""Models that colleagues load: in folders, and in repositories of the Hugging Face Hub."""

from __future__ import annotations

import re
import tempfile
import warnings
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from scvi.model.base import BaseModelClass

from scenc._arguments import refuse_unknown
from scenc.io import GENES, README, download_model, require_hub, upload_model
from scenc.model._card import CardFacts, genes_table, write_card
from scenc.model._persistence import save_model

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from mudata import MuData

    from scenc.nn import CellTransformer

# A repository's name, of nobody or of somebody.
_REPOSITORY = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*")


class SharingMixin(BaseModelClass):
    """The methods of a model that are about colleagues."""

    # `huggingface_hub.ModelHubMixin` has methods of these names. It is no base of this class: it
    # must be there when the class is made, keeps the arguments of `__init__` (data, here) as the
    # configuration, and would download all of a repository.

    module: CellTransformer

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        license: str | None = None,  # what the Hub calls it
        description: str = "",
        organism: str | None = None,
        tissues: tuple[str, ...] | list[str] | str = (),
        dataset: str | None = None,
        scores: Any = None,
        repo: str | None = None,
    ) -> None:
        """Write the model into a folder to share, with a card that describes it.

        The files are ``model.safetensors``, ``config.json``, ``genes.tsv`` and the card,
        ``README.md``. They hold no counts; names of genes, batches, labels and columns of obs they
        do. `load` reads the folder, too.

        Parameters
        ----------
        folder
            The folder. It appears whole or not at all.
        overwrite
            Whether a model that is there may be replaced, its card included.
        license
            Identifier of the licence, such as ``"cc-by-4.0"``; ``None``: the card says that there
            is none.
        description
            Markdown for the card: what the model is for, what it was trained on.
        organism
            Such as ``"human"``; ``None``: what the gene names tell.
        tissues
            Tissues of the training data.
        dataset
            Name of the data that `scores` are of.
        scores
            Scores for the card: what `check`, `scenc.metrics.integration` or
            `scenc.metrics.knn_classification` return, or numbers by name.
        repo
            Repository that the card's example loads the model from; ``None``: `folder`.

        Raises
        ------
        RuntimeError
            The model is not trained.
        FileExistsError
            The folder exists.
        TypeError
            `scores` are no scores.

        Examples
        --------
        >>> model.save_pretrained("pbmc", license="cc-by-4.0", scores=model.check())
        """
        self._require_trained()
        folder = Path(folder)
        facts = CardFacts(
            license=license,
            description=description,
            organism=organism,
            tissues=(tissues,) if isinstance(tissues, str) else tuple(tissues),
            dataset=dataset,
            scores=scores,
        )
        state = self._state()
        where = repo or folder.as_posix()
        name = where.rsplit("/", 1)[-1]
        in_repository = repo is not None
        card = write_card(state, self.module, name, where, facts, in_repository=in_repository)
        texts = {GENES: genes_table(state), README: card}
        save_model(folder, state, self.module, overwrite, texts)

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool | None = None,
        branch: str | None = None,
        token: str | bool | None = None,
        message: str = "Add a scenc model",
        overwrite: bool = False,
        **card: Any,
    ) -> str:
        """Upload the model and its card to a repository of the Hugging Face Hub, in one commit.

        Needs the extra ``scenc[hub]``, and a token that may write (``hf auth login``). The files
        are those of `save_pretrained`: look at them before names of donors get public.

        Parameters
        ----------
        repo
            Name of the repository, such as ``"my-group/pbmc"``; it is made if it is not there.
        private
            Whether a repository that is made is private; ``None``: as the account has it.
        branch
            Branch to commit to; ``None``: the main one.
        token
            Token of the Hub; ``None``: that of the login.
        message
            Message of the commit.
        overwrite
            Whether a model that is there may be replaced. The repository's history keeps it.
        **card
            Arguments of `save_pretrained` about the card, such as ``license``.

        Returns
        -------
        The commit, which `from_pretrained` takes as `revision`.

        Raises
        ------
        ImportError
            huggingface_hub is not installed.
        RuntimeError
            The model is not trained.
        FileExistsError
            There is a model in the repository.
        PermissionError, ConnectionError
            The Hub does not allow it, or cannot be reached.

        Examples
        --------
        >>> commit = model.push_to_hub("my-group/pbmc", license="cc-by-4.0", private=True)
        >>> scenc.Model.from_pretrained("my-group/pbmc", revision=commit)
        """
        require_hub()
        refuse_unknown(card, [field.name for field in fields(CardFacts)], "argument")
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "model"
            self.save_pretrained(folder, repo=repo, **card)
            return upload_model(
                folder,
                repo,
                branch=branch,
                private=private,
                token=token,
                message=message,
                overwrite=overwrite,
            )

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | os.PathLike[str],
        revision: str | None = None,
        *,
        adata: AnnData | MuData | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Read a model from a repository of the Hugging Face Hub, or from a folder.

        Nothing in it is executed, and checksums are compared. Of a repository only the model's own
        files are downloaded, once; it needs the extra ``scenc[hub]``.

        Parameters
        ----------
        repo_or_folder
            A folder that `save_pretrained` or `save` wrote, or the name of a repository. A folder
            of that name comes first.
        revision
            Commit, tag or branch of the repository; ``None``: whatever is newest, with a warning.
        adata
            As in `load`.
        cache_dir
            Where downloads are kept; ``None``: where huggingface_hub keeps them (``HF_HOME``).
        token
            Token of the Hub, for private repositories; ``None``: that of the login.
        local_files_only
            Whether to use the downloads that are there, and no network.

        Raises
        ------
        ImportError
            huggingface_hub is not installed.
        FileNotFoundError
            There is no such folder, repository or revision, or it holds no model.
        ModelFileError
            A file is damaged, foreign, or does not hold what it says.
        PermissionError, ConnectionError
            The Hub does not allow it, or cannot be reached.
        ValueError
            `revision` is given for a folder.

        Warns
        -----
        UserWarning
            A repository is read without `revision`.

        Examples
        --------
        >>> model = scenc.Model.from_pretrained("my-group/pbmc", revision="5f3c2d1")
        >>> model.get_latent_representation(query)
        """
        name = str(repo_or_folder)
        if Path(name).is_dir():
            if revision is not None:
                raise ValueError(
                    f"{name} is a folder, which has no revisions: leave revision={revision!r} out."
                )
            return cast("Self", cls.load(name, adata))
        if not _REPOSITORY.fullmatch(name):
            raise FileNotFoundError(f"There is no folder {name}.")
        folder, commit = download_model(
            name,
            revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        if revision is None:
            warnings.warn(
                f"{name} is read without a revision, and may be another model tomorrow. "
                f"revision={commit!r} fixes the one that was read now.",
                UserWarning,
                stacklevel=2,
            )
        return cast("Self", cls.load(folder, adata))
