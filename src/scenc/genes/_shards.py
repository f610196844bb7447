from __future__ import annotations

import shutil
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np

from scenc.io import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class Shards:
    """Finished vectors by key, kept in files so that a stopped run can go on.

    Parameters
    ----------
    folder
        Where the files are; made when there is something to keep.
    every
        Seconds between files.
    """

    def __init__(self, folder: Path, every: float = 60.0) -> None:
        self.folder, self.every = folder, every
        self._done: dict[str, NDArray[np.float32]] = {}
        self._unsaved: list[str] = []
        self._saved_at = time.monotonic()
        for path in sorted(folder.glob("*.safetensors")):
            self._read(path)

    def __contains__(self, key: str) -> bool:
        return key in self._done

    def __getitem__(self, key: str) -> NDArray[np.float32]:
        return self._done[key]

    def __len__(self) -> int:
        return len(self._done)

    def add(self, keys: list[str], vectors: NDArray[np.float32]) -> None:
        """Keep vectors, and write them now and then."""
        self._done.update(zip(keys, vectors, strict=True))
        self._unsaved += keys
        if time.monotonic() - self._saved_at >= self.every:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        from safetensors.numpy import save_file

        self._saved_at = time.monotonic()
        if not self._unsaved:
            return
        vectors = np.stack([self._done[key] for key in self._unsaved])
        number = len(list(self.folder.glob("*.safetensors")))
        with atomic_path(self.folder / f"{number:06d}-{self._unsaved[0][:12]}.safetensors") as path:
            save_file({"vectors": vectors}, path, {"keys": " ".join(self._unsaved)})
        self._unsaved = []

    def remove(self) -> None:
        """Delete the files: they have served."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                keys = (file.metadata() or {}).get("keys", "").split()
                self._done.update(zip(keys, file.get_tensor("vectors"), strict=True))
        except (SafetensorError, ValueError) as error:
            warnings.warn(f"{path} is damaged and is computed anew: {error}", stacklevel=4)
            path.unlink()
