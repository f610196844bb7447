from __future__ import annotations

import os
import pickle
import zipfile

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import scenc.genes._readers as readers
from scenc.genes import ProteinEmbeddings
from scenc.genes._gene_table import human_table

SYMBOLS = ["A1BG", "CD4", "INTS11"]
IDS = ["ENSG00000121410", "ENSG00000010610", "ENSG00000127054"]
rng = np.random.default_rng(0)
VECTORS = rng.normal(size=(3, 5)).astype(np.float32)


def as_dict(names, vectors=VECTORS, dtype=torch.float32):
    pairs = zip(names, vectors, strict=True)
    return {name: torch.as_tensor(vector).to(dtype) for name, vector in pairs}


def uce(path, names=SYMBOLS, dtype=torch.float32):
    torch.save(as_dict(names, dtype=dtype), path)


def state_checkpoint(path):
    content = {"state_dict": {"w": torch.ones(2, 2)}, "protein_embeds_dict": as_dict(SYMBOLS)}
    torch.save({**content, "epoch": 3, "hyper_parameters": {"lr": 0.1}}, path)


def transcriptformer(path, names=IDS):
    with h5py.File(path, "w") as file:
        file["keys"] = np.array([name.encode() for name in names])
        group = file.create_group("arrays")
        for name, vector in zip(names, VECTORS, strict=True):
            group[name] = vector


def npz(path, **arrays):
    np.savez(path, **arrays)


WRITERS = {
    "uce.pt": uce,
    "lower.pt": lambda path: uce(path, [name.lower() for name in SYMBOLS]),
    "state.pt": lambda path: uce(path, dtype=torch.float16),
    "bfloat.pth": lambda path: uce(path, dtype=torch.bfloat16),
    "double.pt": lambda path: uce(path, dtype=torch.float64),
    "legacy.torch": lambda path: torch.save(
        as_dict(SYMBOLS), path, _use_new_zipfile_serialization=False
    ),
    "heimdall.pt": lambda path: uce(path, IDS),
    "versions.pt": lambda path: uce(path, [f"{name}.7" for name in IDS]),
    "rows.pt": lambda path: torch.save(
        {key: vector[None] for key, vector in as_dict(IDS).items()}, path
    ),
    "state.ckpt": state_checkpoint,
    "human_gene.h5": transcriptformer,
    "pair.npz": lambda path: npz(path, ensembl_id=IDS, symbol=SYMBOLS, embedding=VECTORS),
    "objects.npz": lambda path: npz(
        path, symbol=np.array(SYMBOLS, dtype=object), embedding=VECTORS
    ),
    "keys.npz": lambda path: npz(
        path, keys=np.array(IDS, dtype="S"), embeddings=VECTORS.astype(np.float16)
    ),
    "vectors.h5ad": lambda path: anndata.AnnData(
        VECTORS, obs=pd.DataFrame(index=SYMBOLS)
    ).write_h5ad(path),
    "named.safetensors": lambda path: save_file(
        dict(zip(IDS, VECTORS, strict=True)), path
    ),
}  # fmt: skip


@pytest.mark.parametrize("file", WRITERS)
def test_formats(file, tmp_path):
    WRITERS[file](tmp_path / file)
    proteins = ProteinEmbeddings.load(tmp_path / file)
    by_id = proteins.names[0].startswith("ENSG")
    rows = [(IDS if by_id else SYMBOLS).index(name) for name in proteins.names]
    assert sorted(rows) == [0, 1, 2]
    assert proteins.id_kind == ("ensembl" if by_id else "symbol")
    half = proteins.matrix.dtype == np.float16
    assert half == (file in ("state.pt", "keys.npz"))
    tolerance = 1e-2 if file == "bfloat.pth" else 1e-3 if half else 0
    np.testing.assert_allclose(proteins.matrix, VECTORS[rows], rtol=tolerance, atol=tolerance)
    assert proteins.matrix.flags.c_contiguous
    assert file in repr(proteins)

    aligned = proteins.align(["ENSG00000010610.3", "CPSF3L", "nothing", "a1bg"], species="human")
    assert aligned.has_vector.tolist() == [True, True, False, True]
    assert aligned.matrix.dtype == np.float32
    expected = [VECTORS[1], VECTORS[2], np.zeros(5), VECTORS[0]]
    np.testing.assert_allclose(aligned.matrix, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_save_and_load(dtype, tmp_path):
    first = ProteinEmbeddings.from_arrays(
        IDS, VECTORS.astype(dtype), symbols=SYMBOLS, source="a model"
    )
    path = first.save(tmp_path / "new" / "file.safetensors")
    again = ProteinEmbeddings.load(path)
    assert again.matrix.dtype == dtype
    np.testing.assert_array_equal(again.matrix, first.matrix)
    assert again.names.tolist() == IDS
    assert again.symbols.tolist() == SYMBOLS
    assert again.source == "file.safetensors (a model)"
    assert [p.name for p in path.parent.iterdir()] == ["file.safetensors"]
    with pytest.raises(ValueError, match=r"end it in \.safetensors"):
        first.save(tmp_path / "file.npz")


class Bomb:
    """Makes a folder when unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("place", ["pt", "legacy", "value", "npz", "npz_array", "pkl"])
def test_pickled_objects_are_refused_and_not_executed(place, tmp_path):
    trap, bomb = tmp_path / "executed", Bomb(tmp_path / "executed")
    if place == "pt":
        torch.save(bomb, path := tmp_path / "a.pt")
    elif place == "legacy":
        torch.save(bomb, path := tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    elif place == "value":
        torch.save({**as_dict(SYMBOLS), "EVIL": bomb}, path := tmp_path / "a.pt")
    elif place == "npz":
        names = np.array([*SYMBOLS[:2], bomb], dtype=object)
        np.savez(path := tmp_path / "a.npz", symbol=names, embedding=VECTORS)
    elif place == "npz_array":
        with zipfile.ZipFile(path := tmp_path / "a.npz", "w") as archive:
            header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape'"
            header += b": (3,), }"
            header = header.ljust(127) + b"\n" + pickle.dumps(bomb)
            archive.writestr("symbol.npy", header)
            archive.writestr("embedding.npy", b"")
    else:
        (path := tmp_path / "a.pkl").write_bytes(pickle.dumps(bomb))
    with pytest.raises(ValueError, match="can run code") as error:
        ProteinEmbeddings.load(path)
    assert str(path) in str(error.value)
    assert "weights_only" not in str(error.value)
    assert not trap.exists()


def test_pickled_numpy_vectors_are_refused(tmp_path):
    torch.save(dict(zip(SYMBOLS, VECTORS, strict=True)), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"torch\.as_tensor\(vector\)"):
        ProteinEmbeddings.load(tmp_path / "a.pt")


@settings(max_examples=50)
@given(names=st.lists(st.text(max_size=300) | st.sampled_from(SYMBOLS), max_size=1100))
def test_object_arrays_of_strings_are_read_without_unpickling(names, tmp_path_factory):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    np.save(path, np.array([*names, "last"], dtype=object), allow_pickle=True)
    with path.open("rb") as stream:
        assert readers.read_text_array(stream, "a") == [*names, "last"]


@settings(max_examples=100)
@given(data=st.binary(max_size=200))
def test_damaged_object_arrays_are_refused(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    np.save(path, np.array(SYMBOLS, dtype=object), allow_pickle=True)
    path.write_bytes(path.read_bytes()[:128] + data)
    with path.open("rb") as stream, pytest.raises(ValueError, match="a "):
        readers.read_text_array(stream, "a")


@settings(max_examples=100)
@given(data=st.binary(max_size=100), suffix=st.sampled_from(sorted(readers.READERS)))
def test_damaged_files_are_refused(data, suffix, tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / f"a{suffix}"
    path.write_bytes(data)
    with pytest.raises((ValueError, ImportError), match=f"a{suffix}"):
        ProteinEmbeddings.load(path)


def test_unequal_dimensions(tmp_path):
    vectors = {**as_dict(SYMBOLS), "ODD": torch.zeros(4)}
    torch.save(vectors, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="'ODD' has 4 dimensions, but 3 other genes have 5"):
        ProteinEmbeddings.load(tmp_path / "a.pt")
    torch.save({"layer.weight": torch.ones(3, 4)}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="looks like the weights of a model"):
        ProteinEmbeddings.load(tmp_path / "b.pt")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite(bad):
    vectors = VECTORS.copy()
    vectors[1, 2] = bad
    with pytest.raises(ValueError, match="1 genes have a vector with NaN or infinity: CD4"):
        ProteinEmbeddings.from_arrays(SYMBOLS, vectors)
    with pytest.warns(UserWarning, match="CD4: left out"):
        proteins = ProteinEmbeddings.from_arrays(SYMBOLS, vectors, nonfinite="drop")
    assert proteins.names.tolist() == ["A1BG", "INTS11"]
    np.testing.assert_array_equal(proteins.matrix, VECTORS[[0, 2]])


def test_zero_vectors_are_no_vectors():
    vectors = VECTORS.copy()
    vectors[1] = 0
    with pytest.warns(UserWarning, match="all zero: left out: CD4"):
        proteins = ProteinEmbeddings.from_arrays(SYMBOLS, vectors)
    assert proteins.align(["CD4", "A1BG"]).has_vector.tolist() == [False, True]
    with pytest.raises(ValueError, match="no gene has a vector that is finite"):
        ProteinEmbeddings.from_arrays(SYMBOLS, np.zeros((3, 5)))


def test_repeated_names():
    names = ["A1BG", "CD4", "a1bg"]
    with pytest.raises(ValueError, match="A1BG has several different vectors"):
        ProteinEmbeddings.from_arrays(names, VECTORS)
    with pytest.warns(UserWarning, match="with different vectors, first kept: A1BG"):
        proteins = ProteinEmbeddings.from_arrays(names, VECTORS, duplicates="first")
    np.testing.assert_array_equal(proteins.matrix, VECTORS[:2])
    ids = ["ENSG00000121410.1", "ENSG00000121410.2"]
    with pytest.warns(UserWarning, match="with the same vectors, first kept: ENSG00000121410"):
        proteins = ProteinEmbeddings.from_arrays(ids, VECTORS[[0, 0]])
    assert len(proteins) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["A"], VECTORS), "1 names for 3 vectors"),
        ((["A", "", "B"], VECTORS), "row 1 has no gene name"),
        ((["A"], np.ones(3)), r"the shape is \(3,\)"),
        (([], np.ones((0, 3))), r"the shape is \(0, 3\)"),
        ((["A"], np.array([["x"]])), "must be real numbers"),
    ],
)
def test_wrong_arrays(arguments, message):
    with pytest.raises(ValueError, match=message):
        ProteinEmbeddings.from_arrays(*arguments)


def test_wrong_files(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.pt"):
        ProteinEmbeddings.load(tmp_path / "absent.pt")
    for name in ("a.pt", "a.h5", "a.npz", "a.safetensors"):
        (tmp_path / name).write_bytes(b"hello")
        with pytest.raises(ValueError, match=f"{name}.* (not a|holds|damaged)"):
            ProteinEmbeddings.load(tmp_path / name)
    (tmp_path / "a.doc").touch()
    with pytest.raises(ValueError, match=r"unknown ending '\.doc'; known are \.safetensors"):
        ProteinEmbeddings.load(tmp_path / "a.doc")
    torch.save(torch.ones(4, 2), tmp_path / "all_tokens.torch")
    with pytest.raises(ValueError, match="a Tensor without gene names"):
        ProteinEmbeddings.load(tmp_path / "all_tokens.torch")
    torch.save({"epoch": 1}, tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match="'epoch' is a int"):
        ProteinEmbeddings.load(tmp_path / "model.ckpt")
    np.savez(tmp_path / "b.npz", x=1)
    with pytest.raises(ValueError, match="has x; expected embedding"):
        ProteinEmbeddings.load(tmp_path / "b.npz")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["keys"] = np.array([b"A", b"B"])
        file["arrays/A"] = np.ones(2)
    with pytest.raises(ValueError, match="no arrays/B for the key 'B'"):
        ProteinEmbeddings.load(tmp_path / "c.h5")
    (tmp_path / "d.parquet").touch()
    monkeypatch.setattr(readers, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        ProteinEmbeddings.load(tmp_path / "d.parquet")


@pytest.mark.parametrize("as_index", [True, False])
def test_parquet(as_index, tmp_path):
    table = pd.DataFrame(VECTORS, index=pd.Index(IDS, name="gene"), columns=list("abcde"))
    (table if as_index else table.reset_index()).to_parquet(tmp_path / "a.parquet")
    proteins = ProteinEmbeddings.load(tmp_path / "a.parquet")
    assert proteins.names.tolist() == IDS
    np.testing.assert_array_equal(proteins.matrix, VECTORS)


def test_policies():
    proteins = ProteinEmbeddings.from_arrays(SYMBOLS, VECTORS)
    vocabulary = ["x", "INTS11", "y", "A1BG", "CPSF3L"]
    for missing in ("learned", "zero"):
        aligned = proteins.align(vocabulary, missing)
        assert aligned.missing == missing
        assert aligned.index.tolist() == [0, 1, 2, 3, 4]
        assert aligned.has_vector.tolist() == [False, True, False, True, True]
        assert not aligned.matrix[[0, 2]].any()
    dropped = proteins.align(vocabulary, "drop")
    assert dropped.index.tolist() == [1, 3, 4]
    assert dropped.names.tolist() == ["INTS11", "A1BG", "CPSF3L"]
    np.testing.assert_array_equal(dropped.matrix, VECTORS[[2, 0, 2]])
    assert dropped.has_vector.all()
    assert dropped.coverage.share == pytest.approx(0.6)
    assert dropped.coverage.missing == ("x", "y")
    assert "missing='drop'" in repr(dropped)
    with pytest.raises(ValueError, match="missing='guess'"):
        proteins.align(vocabulary, "guess")
    with pytest.raises(ValueError, match="no vector for any gene of x, y"):
        proteins.align(["x", "y"])


def test_capitals_are_ignored_on_request_only():
    proteins = ProteinEmbeddings.from_arrays(["ACTB", "CD4"], VECTORS[:2])
    mouse = ["Actb", "Cd4", "Xkr4"]
    coverage = proteins.coverage(mouse)
    assert coverage.share == 0
    assert any("2 more match if capitals are ignored" in note for note in coverage.notes)
    with pytest.raises(ValueError, match="ignore_case=True"):
        proteins.align(mouse)
    aligned = proteins.align(mouse, ignore_case=True)
    assert aligned.has_vector.tolist() == [True, True, False]
    assert aligned.coverage.counts == {"case": 2, "unmatched": 1}


def test_symbols_beside_ids_serve_where_ids_do_not():
    mouse_ids = ["ENSMUSG00000029580", "ENSMUSG00000023274"]
    proteins = ProteinEmbeddings.from_arrays(mouse_ids, VECTORS[:2], symbols=["Actb", "Cd4"])
    aligned = proteins.align(["Cd4", "ENSMUSG00000029580.15"])
    np.testing.assert_array_equal(aligned.matrix, VECTORS[[1, 0]])


def test_coverage_report(tmp_path):
    proteins = ProteinEmbeddings.from_arrays(IDS, VECTORS, source="file.pt")
    coverage = proteins.coverage(["CPSF3L", "CD4", "<x>", ""])
    assert str(coverage).splitlines()[0] == (
        "EmbeddingCoverage: 2 of 4 genes have a vector (50.0 %) in file.pt"
    )
    assert sum(coverage.counts.values()) == 4
    assert "&lt;x&gt;" in coverage._repr_html_()
    adata = anndata.AnnData(np.ones((1, 1), dtype=np.float32), uns={"c": coverage.to_uns()})
    adata.write_h5ad(tmp_path / "a.h5ad")


@pytest.fixture
def random_vectors(tmp_path):
    """File of a random vector for every gene of the table that has an id."""
    genes = human_table().genes
    genes = genes[(genes["ensembl_id"] != "") & (genes["symbol"] != "")]
    vectors = np.random.default_rng(0).normal(size=(len(genes), 4)).astype(np.float16)
    names = {key: genes[key].to_numpy(object) for key in ("ensembl_id", "symbol")}
    npz(tmp_path / "random.npz", **names, embedding=vectors)
    return tmp_path / "random.npz"


@pytest.mark.parametrize(
    ("name", "n_found"),
    [
        ("pbmc68k", 753),  # of 765, some under old names
        pytest.param("kang18_ctrl_8donors_1287genes", 1268, marks=pytest.mark.shared),
    ],
)
def test_vectors_of_real_genes(name, n_found, request, real_cells):
    if name == "pbmc68k":
        path = request.getfixturevalue("random_vectors")
    else:
        path = request.getfixturevalue("shared_data") / "genes" / "gene_text_minilm_384.npz"
    with np.load(path, allow_pickle=True) as file:
        ids, vectors = file["ensembl_id"].tolist(), file["embedding"]
        symbols = file["symbol"].tolist()
    proteins = ProteinEmbeddings.load(path)
    assert (len(proteins), proteins.dim, proteins.id_kind) == (*vectors.shape, "ensembl")
    assert proteins.matrix.dtype == np.float16
    assert proteins.symbols.tolist() == symbols
    names = real_cells(name).var_names
    aligned = proteins.align(names)
    assert aligned.matrix.shape == (len(names), proteins.dim)
    assert aligned.has_vector.sum() == n_found
    for gene, ensembl_id in (("NKG7", "ENSG00000105374"), ("ATPIF1", "ENSG00000130770")):
        if gene in names:
            row = aligned.matrix[names.get_loc(gene)]
            np.testing.assert_array_equal(row, vectors[ids.index(ensembl_id)].astype(np.float32))
