"""Models in repositories of the Hugging Face Hub, or of a server that speaks its protocol."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scenc._paths import MODEL_FILES, SHARED_FILES
from scenc.io._model_files import GENES, read_unsigned_card

if TYPE_CHECKING:
    from collections.abc import Iterator

README = "README.md"
# Errors of httpx and requests, which huggingface_hub lets through.
_UNREACHABLE = ("ConnectError", "ConnectTimeout", "ReadTimeout", "ConnectionError", "Timeout")


def download_model(
    repo: str,
    revision: str | None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> tuple[Path, str]:
    """Download the files of a model, and no others, into the cache of huggingface_hub.

    Parameters
    ----------
    repo
        Name of the repository.
    revision
        Commit, tag or branch; ``None``: the main branch.
    cache_dir, token, local_files_only
        As in `huggingface_hub.hf_hub_download`.

    Returns
    -------
    The folder, and the commit that it is of.

    Raises
    ------
    ImportError
        huggingface_hub is not installed.
    FileNotFoundError
        There is no such repository or revision, or it holds no model.
    ModelFileError
        The model is damaged, foreign, or from a newer version.
    ConnectionError
        The server cannot be reached, and the files are not in the cache.
    PermissionError
        The repository is not open to everybody.
    """
    hub = _hub()
    how: dict[str, Any] = {
        "cache_dir": cache_dir,
        "token": token,
        "local_files_only": local_files_only,
        "endpoint": _endpoint(),
        **_sender(),
    }

    def download(name: str, at: str | None) -> Path:
        return Path(hub.hf_hub_download(repo, name, revision=at, **how))

    with _explained(repo, revision):
        # Files are asked for by name: whatever else the repository lists is never looked at.
        card, weights = SHARED_FILES
        try:
            first = download(card, revision)
        except hub.errors.EntryNotFoundError:
            card, weights = MODEL_FILES
            first = download(card, revision)
        commit = first.parent.name
        # Before the weights of another program are downloaded.
        read_unsigned_card(first)
        download(weights, commit)
        for name in (GENES, README):
            try:
                download(name, commit)
            except hub.errors.EntryNotFoundError:
                continue
    return first.parent, commit


def upload_model(
    folder: Path,
    repo: str,
    *,
    branch: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    message: str = "",
    overwrite: bool = False,
) -> str:
    """Upload a folder in one commit, and make the repository if there is none.

    Returns
    -------
    The commit.

    Raises
    ------
    ImportError
        huggingface_hub is not installed.
    FileExistsError
        There is a model, which may not be replaced.
    ConnectionError, PermissionError
        The server cannot be reached, or does not allow it.
    """
    hub = _hub()
    api = hub.HfApi(endpoint=_endpoint(), token=token, **_sender())
    with _explained(repo, branch):
        api.create_repo(repo, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(repo, branch=branch, exist_ok=True)
        for name in (SHARED_FILES[0], MODEL_FILES[0]):
            if not overwrite and api.file_exists(repo, name, revision=branch):
                raise FileExistsError(
                    f"{repo} has a model; pass overwrite=True to replace it. (Its history keeps "
                    "the one that is there.)"
                )
        # All in one commit: nobody must find weights beside the description of others.
        files = [
            hub.CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path)
            for path in sorted(folder.iterdir())
        ]
        commit = api.create_commit(repo, files, commit_message=message, revision=branch)
    return str(commit.oid)


def require_hub() -> None:
    """Refuse to go on without huggingface_hub.

    Raises
    ------
    ImportError
        Naming the line that installs it.
    """
    _hub()


def _hub() -> Any:
    try:
        hub = import_module("huggingface_hub")
        import_module("huggingface_hub.errors")
    except ImportError:
        raise ImportError(
            "Models of repositories need huggingface_hub: pip install 'scenc[hub]'. (Folders do "
            "without.)"
        ) from None
    return hub


def _endpoint() -> str | None:
    # huggingface_hub itself reads it at its import only.
    return os.environ.get("HF_ENDPOINT") or None


def _sender() -> dict[str, str]:
    from scenc import __version__

    return {"library_name": "scenc", "library_version": __version__}


@contextmanager
def _explained(repo: str, revision: str | None) -> Iterator[None]:
    """Turn what huggingface_hub raises into errors that name the fix."""
    errors = import_module("huggingface_hub.errors")
    host = _endpoint() or "huggingface.co"
    try:
        yield
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"{repo} on {host} is given out on request only: ask on its page, then log in with "
            "`hf auth login`, or pass token."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"There is neither a folder {repo} nor a repository of this name on {host}. If it is "
            "private, log in with `hf auth login`, or pass token."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{repo} on {host} has no revision {revision!r}.") from error
    except errors.LocalEntryNotFoundError as error:
        raise ConnectionError(
            f"{repo} is not in the cache, and {host} was not or could not be reached: {error}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise FileNotFoundError(
            f"{repo} on {host} holds no scenc model: it lacks {SHARED_FILES[0]} or "
            f"{SHARED_FILES[1]}. (Pickled weights are never read.)"
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise PermissionError(
                f"{host} does not allow it: log in with `hf auth login`, or pass a token that may "
                f"write to {repo}."
            ) from error
        raise ConnectionError(f"{host}: {error}") from error
    except Exception as error:
        if type(error).__name__ not in _UNREACHABLE:
            raise
        raise ConnectionError(f"{host} cannot be reached: {error}") from error
