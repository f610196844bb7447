"""The YAML file of a benchmark: read, and every key checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scenc._arguments import refuse_unknown
from scenc._paths import is_address
from scenc.benchmark.entries._encodings import Encoding, grid
from scenc.benchmark.entries._published_encodings import published_encodings
from scenc.benchmark.entries._sets import EvaluationSet, TrainingSet, missing_files

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

SHIPPED = ("small", "paper")

_TOP = ("title", "source", "data_dir", "train", "evaluate", "encodings", "protein_embeddings",
        "baselines", "seeds", "budgets", "negative_controls", "metrics", "k",
         "threads")  # fmt: skip
_GRID = ("preset", "objective", "gene_encoders", "expression_encoders", "controls",
         "depth_tokens", "model", "training")  # fmt: skip


@dataclass(frozen=True)
class Config:
    """A configuration file.

    Attributes
    ----------
    path
        The file.
    values
        Its contents, all keys known.
    data_dir
        Folder that file names in it are relative to.
    """

    path: Path
    values: dict[str, Any]
    data_dir: Path

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `Benchmark`, but for the output folder."""
        values = self.values
        arguments: dict[str, Any] = {
            "train": self._train(values.get("train")),
            "evaluate": {name: self._evaluation(of) for name, of in values["evaluate"].items()},
            "encodings": self._encodings(values.get("encodings", {})),
        }
        if (proteins := values.get("protein_embeddings")) is not None:
            arguments["protein_embeddings"] = self._file(proteins["file"])
            arguments["gene_vectors"] = proteins.get("label")
        for name in (
            "title",
            "baselines",
            "seeds",
            "budgets",
            "negative_controls",
            "metrics",
            "k",
            "threads",
        ):
            if values.get(name) is not None:
                arguments[name] = values[name]
        return arguments

    @property
    def missing_files(self) -> list[Path]:
        """Files that it names and that are not there."""
        train = self._train(self.values.get("train"))
        sets = [self._evaluation(given).data for given in self.values["evaluate"].values()]
        proteins = self.values.get("protein_embeddings")
        vectors = [] if proteins is None else [self._file(proteins["file"])]
        return missing_files([*(train.sources if train else ()), *sets, *vectors])

    def describe_missing(self, missing: list[Path]) -> str:
        """Say how many files are missing, which is the first, and where they come from."""
        count = "1 file is" if len(missing) == 1 else f"{len(missing)} files are"
        source = self.values.get("source") or ""
        return f"{count} not there, the first: {missing[0]}. {source}".strip()

    def _train(self, given: dict[str, Any] | None) -> TrainingSet | None:
        if given is None:
            return None
        rest = {name: value for name, value in given.items() if name != "files"}
        return TrainingSet([self._file(name) for name in given["files"]], **rest)

    def _evaluation(self, given: dict[str, Any]) -> EvaluationSet:
        rest = {name: value for name, value in given.items() if name != "file"}
        return EvaluationSet(self._file(given["file"]), **rest)

    def _encodings(self, given: Any) -> list[Encoding]:
        if isinstance(given, list):
            return [Encoding(**one) for one in given]
        arguments = {name: value for name, value in given.items() if name in _GRID}
        others = [Encoding(**one) for one in given.get("others", [])]
        return [*grid(**arguments), *_published(given), *others]

    def _file(self, name: str) -> Path | str:
        if is_address(name):
            return name
        return self.data_dir / Path(name).expanduser()


def _published(given: dict[str, Any]) -> list[Encoding]:
    """Return the published systems' encodings that are asked for: all, or those named."""
    wanted = given.get("published", False)
    if wanted is False:
        return []
    shared = ("preset", "objective", "model", "training")
    arguments = {name: given[name] for name in shared if name in given}
    return published_encodings(names=None if wanted is True else wanted, **arguments)


def read_config(
    config: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None
) -> Config:
    """Read and check a configuration.

    Parameters
    ----------
    config
        A YAML file, or the name of one that comes with scenc.
    data_dir
        Folder that file names are relative to; ``None``: the file's ``data_dir`` (itself relative
        to the file), or the folder the file is in, or for those of scenc the current one.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    TypeError
        A key is unknown; the message names the nearest known one.
    ValueError
        The file is no YAML, a key is missing, or a value is no such thing.
    """
    path, home = _find(config)
    try:
        values = _parse(path)
        _check(values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from None
    if data_dir is None:
        data_dir = home / Path(values.get("data_dir") or ".").expanduser()
    return Config(path, values, Path(data_dir))


def _find(config: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return the file, and the folder its data are by default."""
    path = Path(config)
    if path.is_file():
        return path, path.parent
    if str(config) in SHIPPED:
        return Path(str(files("scenc.benchmark.entries") / "configs" / f"{config}.yaml")), Path()
    raise FileNotFoundError(
        f"There is no file {config}; scenc itself brings {' and '.join(map(repr, SHIPPED))}."
    )


def _parse(path: Path) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain values only, and no key twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                    line = key.start_mark.line + 1
                    raise ValueError(f"the key {key.value!r} stands twice (line {line}).")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    # YAML 1.1 takes 1e-3 for a text.
    number = re.compile(r"[-+]?\d+[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not a text file: {error}") from None
    return _mapping(values, "the file")


def _check(values: dict[str, Any]) -> None:
    """Refuse what is unknown, missing or of the wrong kind."""
    # A place for YAML anchors, which other keys refer to.
    values.pop("shared", None)
    refuse_unknown(values, _TOP, "key")
    sets = _mapping(_needed(values, "evaluate", "the file"), "evaluate")
    if not sets:
        raise ValueError("evaluate names no evaluation set.")
    for name, given in sets.items():
        where = f"evaluate.{name}"
        _keys(given, ["file", *_attributes(EvaluationSet, "data")], where)
        _text(_needed(given, "file", where), f"{where}.file")
    if (train := values.get("train")) is not None:
        _keys(train, ["files", *_attributes(TrainingSet, "data")], "train")
        for name in _texts(_needed(train, "files", "train"), "train.files"):
            _text(name, "a file in train.files")
    _check_encodings(values.get("encodings", {}))
    if (proteins := values.get("protein_embeddings")) is not None:
        _keys(proteins, ["file", "label"], "protein_embeddings")
        _text(_needed(proteins, "file", "protein_embeddings"), "protein_embeddings.file")
    if values.get("source") is not None and not isinstance(values["source"], str):
        raise ValueError(f"source must be a text, got {_shown(values['source'])}.")
    wanted = values.get("negative_controls")
    if wanted is not None and not isinstance(wanted, bool):
        _texts(wanted, "negative_controls")
    for name in ("seeds", "budgets", "baselines", "metrics"):
        if values.get(name) is not None:
            _texts(values[name], name)


def _check_encodings(given: Any) -> None:
    if not isinstance(given, list):
        _keys(given, [*_GRID, "published", "others"], "encodings")
        if not isinstance(given.get("published", False), bool):
            _texts(given["published"], "encodings.published")
        for name in ("gene_encoders", "expression_encoders"):
            if name in given:
                _texts(given[name], f"encodings.{name}")
        for name in ("model", "training"):
            if name in given:
                _mapping(given[name], f"encodings.{name}")
        given = _texts(given.get("others", []), "encodings.others")
    for one in given:
        _keys(one, _attributes(Encoding), "an encoding")


def _attributes(of: type[Any], *less: str) -> list[str]:
    return [field.name for field in fields(of) if field.name not in less]


def _needed(values: dict[str, Any], key: str, where: str) -> Any:
    if values.get(key) is None:
        raise ValueError(f"{where} lacks {key!r}.")
    return values[key]


def _keys(value: Any, known: Iterable[str], where: str) -> None:
    refuse_unknown(_mapping(value, where), known, f"key in {where}:")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{where} must hold keys and values (key: value), got {_shown(value)}.")
    return value


def _texts(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, got {_shown(value)}.")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} must be a file name, got {_shown(value)}.")
    return value


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:60]
