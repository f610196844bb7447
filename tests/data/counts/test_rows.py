from __future__ import annotations

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from scenc.data import open_rows

FORMATS = {
    "csr_matrix": sp.csr_matrix,
    "csr_array": sp.csr_array,
    "csc_matrix": sp.csc_matrix,
    "csc_array": sp.csc_array,
    "coo_array": sp.coo_array,
    "dense": np.asarray,
    "fortran": np.asfortranarray,
}


@pytest.fixture
def counts(make_counts):
    return make_counts(23, 11)


@pytest.fixture(params=[*FORMATS, "backed csr_matrix", "backed csc_matrix", "backed dense"])
def rows(request, counts, tmp_path):
    on_disk, name = request.param.startswith("backed"), request.param.split()[-1]
    matrix = FORMATS[name](counts)
    if not on_disk:
        yield open_rows(matrix)
        return
    anndata.AnnData(matrix).write_h5ad(tmp_path / "counts.h5ad")
    backed = anndata.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    yield open_rows(backed.X)
    backed.file.close()


@pytest.mark.parametrize(
    "wanted",
    [[5], [3, 4, 5], [22, 0, 7], [9, 2, 9, 9], list(range(23)), [1, 0]],
    ids=["one", "run", "unordered", "repeated", "all", "reversed"],
)
def test_rows_come_in_the_order_asked_for(rows, counts, wanted):
    matrix, positions = rows.select(np.array(wanted))
    assert sp.issparse(matrix)
    assert matrix.format == "csr"
    np.testing.assert_array_equal(matrix[positions].toarray(), counts[wanted])


@pytest.mark.parametrize("size", [1, 5, 23, 100])
def test_chunks_walk_through_all_rows(rows, counts, size):
    assert rows.shape == counts.shape
    starts, blocks = zip(*rows.chunks(size), strict=True)
    assert list(starts) == list(range(0, 23, size))
    assert max(block.shape[0] for block in blocks) <= size
    np.testing.assert_array_equal(sp.vstack(blocks).toarray(), counts)


def test_csr_in_memory_is_not_copied(counts):
    matrix = sp.csr_matrix(counts)
    selected, positions = open_rows(matrix).select(np.array([4, 2]))
    assert selected is matrix
    assert positions.tolist() == [4, 2]


@pytest.mark.parametrize("matrix", [np.ones(3), [[1, 2]], "X", None])
def test_what_cannot_be_read_by_row_is_refused_by_name(matrix):
    with pytest.raises(TypeError, match=rf"layer 'raw' is a {type(matrix).__name__}"):
        open_rows(matrix, "layer 'raw'")
