"""Files of one run share genes: numbers and other species are found before training."""

from __future__ import annotations

import pytest

from scenc.data import CellFiles, CellFilesError
from scenc.model import Model

QUIET = {"progress": False, "validation_size": 0.0}
HUMAN = ["ACTB", "CD4", "CD8A", "MS4A1", "CD3E", "GAPDH", "LYZ", "NKG7", "CD14", "PTPRC"]
MOUSE = [name.capitalize() for name in HUMAN]
NUMBERS = [str(number) for number in range(10)]


@pytest.fixture
def write(tmp_path, write_cells):
    def write_genes(name, genes):
        write_cells(tmp_path / f"{name}.h5ad", genes, n_cells=20)
        return tmp_path / f"{name}.h5ad"

    return write_genes


@pytest.mark.parametrize(("genes", "first"), [(MOUSE, "Actb"), (NUMBERS, "0")], ids=str)
@pytest.mark.parametrize("n_odd", [1, 2])
def test_files_that_share_no_genes_with_the_others_are_refused(write, genes, first, n_odd):
    files = [write(f"human{i}", HUMAN) for i in range(3)]
    odd = [write(f"odd{i}", genes) for i in range(n_odd)]
    message = (
        rf"{n_odd} of {3 + n_odd} files cannot be used:\n  \S*odd0.h5ad: it shares 0 of 10 genes "
        rf"with the others: it names genes like '{first}', they like 'ACTB'.*gene_ids"
    )
    with pytest.raises(CellFilesError, match=message):
        CellFiles([*odd, *files], **QUIET)
    assert CellFiles(files, **QUIET).n_vars == 10
    # Those who list the genes have said which they want.
    both = CellFiles([*odd, *files], genes=[*HUMAN, *genes], **QUIET)
    assert both.n_vars == 20


def test_files_that_share_few_genes_are_warned_about(write):
    names = [f"FAKE{i}" for i in range(40)]
    files = [write("a", names[:20]), write("b", names[:20]), write("c", names[16:36])]
    with pytest.warns(UserWarning, match=r"1 of 3 files .*c.h5ad shares 4 of 20 genes with the"):
        cells = CellFiles(files, **QUIET)
    assert cells.n_vars == 36


def test_a_panel_shares_its_genes_with_a_whole_transcriptome(write):
    names = [f"FAKE{i}" for i in range(60)]
    assert CellFiles([write("all", names), write("panel", names[:5])], **QUIET).n_vars == 60


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        (NUMBERS, "10 of 10 genes have numbers as names .*gene_ids"),
        (HUMAN + MOUSE, "10 names are human and 10 of another species"),
        ([f"GRCh38_{n}" for n in HUMAN] + [f"mm10___{n}" for n in MOUSE], "10 names are human and"),
    ],
    ids=["numbers", "species", "genomes"],
)
def test_odd_names_are_warned_about(write, write_cells, tmp_path, genes, message):
    file = write("a", genes)
    with pytest.warns(UserWarning, match=message) as warned:
        CellFiles([file], **QUIET)
    assert len(warned) == 1
    adata = write_cells(tmp_path / "b.h5ad", genes, n_cells=20)
    del adata.uns["counts"]
    with pytest.warns(UserWarning, match=message) as warned:
        Model.setup_anndata(adata)
    assert len(warned) == 1
    assert any(str(warned[0].message) == f"{n}." for n in adata.uns["scenc_genes"]["notes"])


@pytest.mark.parametrize("genes", [HUMAN, MOUSE, [*HUMAN, "Actb"], [*MOUSE, "H2-K1"]], ids=len)
def test_names_of_one_species_are_not(write, genes):
    assert CellFiles([write("a", genes)], **QUIET).n_vars == len(genes)
