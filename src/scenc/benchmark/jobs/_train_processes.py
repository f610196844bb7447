"""Training of one model by several processes of this machine, under Lightning's DDP.

Lightning starts the other processes by running the same program again. So the program must do
nothing but train, and it is this module: ``python -m scenc.benchmark.jobs._train_processes``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from scenc._distributed import rank
from scenc.benchmark.jobs._store import JobStore, write_json
from scenc.benchmark.jobs._train_model import train_model

_SPEC, _OUTCOME = "spec.json", "outcome.json"


def train_in_processes(spec: dict[str, Any], store: JobStore, folder: Path) -> dict[str, Any]:
    """Do a training job in new processes; the arguments are those of `train_model`.

    Raises
    ------
    RuntimeError
        They failed; the message is the last line of their standard error.
    """
    import torch

    write_json(folder / _SPEC, spec)
    command = [
        sys.executable,
        "-m",
        "scenc.benchmark.jobs._train_processes",
        str(store.root),
        str(folder),
    ]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **threads}
    )
    if done.returncode != 0 or not (folder / _OUTCOME).is_file():
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(
            f"training in {spec['settings']['training']['devices']} processes failed: "
            f"{said[-1] if said else f'exit code {done.returncode}'}"
        )
    outcome: dict[str, Any] = json.loads((folder / _OUTCOME).read_text(encoding="utf-8"))
    for name in (_SPEC, _OUTCOME):
        (folder / name).unlink()
    return outcome


def main(root: str, folder: str) -> None:
    """Train as one of the processes; the first one writes the model and the record."""
    spec = json.loads((Path(folder) / _SPEC).read_text(encoding="utf-8"))
    record = train_model(spec, JobStore(root), Path(folder))
    if rank() == 0:
        write_json(Path(folder) / _OUTCOME, record)


if __name__ == "__main__":
    main(*sys.argv[1:])
