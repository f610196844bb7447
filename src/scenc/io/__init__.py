"""Files: written whole or not at all, where they keep counts, columns of obs and var, saved models.

Importing it is light: h5py, zarr, safetensors and PyTorch are loaded where they are used.
"""

from scenc.io._atomic import atomic_folder, atomic_path
from scenc.io._frames import column_names, count_rows, group_names, read_column, read_groups
from scenc.io._hub import README, download_model, require_hub, upload_model
from scenc.io._locate_counts import (
    CountMatrix,
    find_counts,
    flag_fractions,
    flag_unusable,
    odd_value,
    open_file,
    opened,
    read_anndata,
)
from scenc.io._model_files import (
    GENES,
    ModelFileError,
    read_card,
    read_shapes,
    read_vocabulary,
    read_weights,
    weights_digest,
    write_model,
)

__all__ = [
    "GENES",
    "README",
    "CountMatrix",
    "ModelFileError",
    "atomic_folder",
    "atomic_path",
    "column_names",
    "count_rows",
    "download_model",
    "find_counts",
    "flag_fractions",
    "flag_unusable",
    "group_names",
    "odd_value",
    "open_file",
    "opened",
    "read_anndata",
    "read_card",
    "read_column",
    "read_groups",
    "read_shapes",
    "read_vocabulary",
    "read_weights",
    "require_hub",
    "upload_model",
    "weights_digest",
    "write_model",
]
