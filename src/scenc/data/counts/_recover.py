from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scenc.data.counts._rows import open_rows

if TYPE_CHECKING:
    from scenc.data.counts._rows import Csr


def recover_counts(matrix: Any, *, tolerance: float = 0.15) -> Csr:
    """Recover raw counts from values of the form log(1 + count * factor), one factor a cell.

    Public data often keep log-normalised values only. The smallest positive value of a cell is
    then one count, which gives the cell's factor and so all its counts.

    Parameters
    ----------
    matrix
        Log-normalised values (natural logarithm), cells x genes.
    tolerance
        Largest accepted distance of a recovered count to the nearest integer.

    Returns
    -------
    CSR matrix of float32 integers, cells x genes.

    Raises
    ------
    ValueError
        A recovered count is further than `tolerance` from an integer: the values were made in
        another way, or no gene of that cell has exactly one count. The message names the row.

    Examples
    --------
    >>> import numpy as np
    >>> counts = np.array([[1.0, 3.0, 0.0], [0.0, 2.0, 1.0]])
    >>> logged = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    >>> recover_counts(logged).toarray().tolist()
    [[1.0, 3.0, 0.0], [0.0, 2.0, 1.0]]
    """
    rows = open_rows(matrix)
    blocks = []
    for start, block in rows.chunks():
        values = sp.csr_array(block, dtype=np.float64, copy=True)
        values.eliminate_zeros()
        linear = np.expm1(values.data)
        filled = np.flatnonzero(np.diff(values.indptr))
        unit = np.ones(block.shape[0])
        unit[filled] = np.minimum.reduceat(linear, values.indptr[filled]) if len(filled) else 1
        ratio = linear / np.repeat(unit, np.diff(values.indptr))
        rounded = np.rint(ratio)
        off = np.abs(ratio - rounded)
        if len(off) and not off.max() <= tolerance:
            worst = int(np.argmax(~(off <= tolerance)))
            row = start + int(np.searchsorted(values.indptr, worst, side="right")) - 1
            raise ValueError(
                f"Row {row}: a recovered count of {ratio[worst]:.3f} is no integer "
                f"(tolerance {tolerance}). The values are not log(1 + count * factor) with a "
                "smallest count of one; look for the raw counts in adata.raw or adata.layers."
            )
        values.data = rounded
        blocks.append(values.astype(np.float32))
    return sp.csr_matrix(sp.vstack(blocks, format="csr"))
