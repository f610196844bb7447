from __future__ import annotations

from pathlib import Path


def check_output(path: str | Path) -> Path:
    """Refuse to write vectors under a name that would be misread when loaded."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: vectors are written as safetensors; end it in .safetensors.")
    return path
