from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from scenc._arguments import choose
from scenc.datasets._download import download
from scenc.datasets._paper import tissues
from scenc.datasets._read import read_counts

if TYPE_CHECKING:
    import os

    from anndata import AnnData

SOURCES = ("cz-benchmarks", "cellxgene")
# The donors of the second version are those after TSP16.
_LAST_OLD_DONOR = 16


def tabula_sapiens(
    tissue: str,
    folder: str | os.PathLike[str] = "scenc-data",
    *,
    source: Literal["cz-benchmarks", "cellxgene"] = "cz-benchmarks",
    progress: bool = True,
) -> AnnData:
    """Return one tissue of Tabula Sapiens v2 with raw counts; it is downloaded once.

    Files have 2 to 6 GB, of which only the counts are read.

    Parameters
    ----------
    tissue
        One of `tissues`, such as ``"bladder"``.
    folder
        Where downloads are kept.
    source
        ``"cz-benchmarks"``: the cells of the new donors as the CZI benchmarks publish them.
        ``"cellxgene"``: a fixed version in CELLxGENE; of its donors, those after TSP16 are kept.
    progress
        Whether to show progress.

    Returns
    -------
    AnnData with counts in X. Cell types are in ``obs["cell_type"]``, batches, in files of the first
    source, in ``obs["10X_run"]``.

    Raises
    ------
    ValueError
        There is no such tissue or source, or the file holds no counts.
    DownloadError
        The download failed.

    Examples
    --------
    >>> adata = scenc.datasets.tabula_sapiens("bladder")
    >>> scenc.Model.setup_anndata(adata, batch_key="10X_run", labels_key="cell_type")
    """
    choose(source, SOURCES, "source")
    choose(tissue, tissues().index, "tissue")
    table = tissues().loc[[tissue]]
    if source == "cellxgene":
        table = table.assign(url=table["cellxgene_url"])
    (path,) = download(table, folder, progress=progress).paths
    adata = read_counts(path)
    if source == "cellxgene":
        number = adata.obs["donor_id"].astype(str).str.extract(r"^TSP(\d+)$")[0].astype(float)
        adata = adata[(number > _LAST_OLD_DONOR).to_numpy()].copy()
    return adata
