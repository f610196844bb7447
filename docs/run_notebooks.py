"""Run the tutorials, each in a folder of its own, and fail if one fails, warns or leaves a trace.

Without arguments all are run and their outputs thrown away; ``--write`` keeps the outputs. With
``SCENC_QUICK_NOTEBOOKS=1`` training is cut short: a cell of settings that has ``quick`` in its
metadata is followed by that line. Outputs are kept of full runs only.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

# Progress bars are plain where ipywidgets are not installed: said by tqdm at its import.
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run the notebooks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of tutorials/")
    parser.add_argument("--write", action="store_true", help="keep the outputs in the notebooks")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for each cell")
    arguments = parser.parse_args()
    quick = os.environ.get("SCENC_QUICK_NOTEBOOKS", "0") not in ("", "0")
    if quick and arguments.write:
        sys.exit("--write keeps the outputs of full runs: unset SCENC_QUICK_NOTEBOOKS.")
    failed = 0
    for path in arguments.notebooks or sorted((ROOT / "tutorials").glob("*.ipynb")):
        start, busy = time.perf_counter(), _processor_seconds()
        fault = run(path, arguments.write, arguments.timeout, quick)
        took, busy = time.perf_counter() - start, _processor_seconds() - busy
        print(
            f"{path.name}: {took:.0f} s, {busy:.0f} s of processor time, {fault or 'ok'}",
            flush=True,
        )
        failed += fault is not None
    sys.exit(f"{failed} notebooks failed." if failed else 0)


def _processor_seconds() -> float:
    """Return the processor time of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(path: Path, write: bool, timeout: int, quick: bool = False) -> str | None:
    """Run one notebook; return what is wrong with it."""
    notebook = nbformat.read(path, as_version=4)
    if quick:
        for cell in notebook.cells:
            if line := cell.metadata.get("quick"):
                cell.source += f"\n{line}"
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=timeout,
            startup_timeout=timeout,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=ERROR"],
        )
        try:
            client.execute()
        except CellExecutionError as error:
            return f"failed:\n{error}"
        outputs = [(cell, output) for cell in notebook.cells for output in cell.get("outputs", ())]
        for cell, output in outputs:
            text = _text(output)
            # What a training says of its embedding, from two minutes on, is for the reader.
            if output.get("name") == "stderr" and "model.check() tells more" not in text:
                return f"writes to stderr in\n{cell.source}\n{text}"
            if folder in text or str(ROOT) in text:
                return f"shows a path of this machine in\n{cell.source}\n{text}"
    if write:
        _without_traces(notebook)
        nbformat.write(notebook, path)
    return None


def _text(output: Any) -> str:
    """Return all text of an output."""
    data = output.get("data", {})
    return output.get("text", "") + "".join(
        str(value) for kind, value in data.items() if not kind.startswith("image/")
    )


def _without_traces(notebook: Any) -> None:
    """Drop what changes from run to run: times of execution, the kernel's version."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


if __name__ == "__main__":
    main()
