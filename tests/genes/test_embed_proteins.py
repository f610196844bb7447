from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch

import scenc.genes._embed_proteins as module
from scenc.genes import ProteinEmbeddings, embed_proteins
from scenc.genes._esm import Esm, cut
from scenc.genes._fasta import parse_header, read_fasta
from scenc.genes._shards import Shards

LETTERS = np.array(list("LAGVSERTIDPKQNFYMHWC"))
HEADER = (
    ">{p} pep chromosome:GRCh38:1:65419:71585:1 gene:{g}.7 transcript:ENST00000641515.2 "
    "gene_biotype:protein_coding transcript_biotype:protein_coding gene_symbol:{s} "
    "description:olfactory receptor [Source:HGNC Symbol;Acc:HGNC:14825]"
)


def sequence(seed, length):
    return "".join(np.random.default_rng(seed).choice(LETTERS, length))


PROTEINS = [
    ("ENSP00000493376.2", "ENSG00000186092", "OR4F5", sequence(1, 30)),
    ("ENSP00000409316.1", "ENSG00000284733", "OR4F29", sequence(2, 7)),
    ("ENSP00000329982.2", "ENSG00000186092", "OR4F5", sequence(3, 61)),
    ("ENSP00000000001.2", "ENSG00000000001", "UNUSUAL", "mUOBZXlk" + sequence(4, 5)),
    ("ENSP00000000002.2", "ENSG00000000002", "LONG", sequence(5, 203)),
    ("ENSP00000000003.2", "ENSG00000000003", "ONE", "M"),
]


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "human.pep.all.fa.gz"
    lines = []
    for p, g, s, text in PROTEINS:
        lines += [
            HEADER.format(p=p, g=g, s=s),
            *(text[i : i + 60] for i in range(0, len(text), 60)),
        ]
    with gzip.open(path, "wt") as stream:
        stream.write("\n".join([*lines, ""]))
    return path


@pytest.fixture(scope="module")
def reference(tiny_esm):
    """Mean over residues of one sequence at a time, by transformers alone."""
    from transformers import EsmModel, EsmTokenizer

    model = EsmModel.from_pretrained(tiny_esm, add_pooling_layer=False).eval()
    tokenizer = EsmTokenizer.from_pretrained(tiny_esm)

    def mean(text):
        with torch.inference_mode():
            hidden = model(**tokenizer(text.upper(), return_tensors="pt")).last_hidden_state
        return hidden[0, 1:-1].numpy()

    return mean


def run(fasta, tiny_esm, out, **arguments):
    settings = {"device": "cpu", "progress": False, "window": 300, "max_tokens_per_batch": 400}
    return embed_proteins(fasta, tiny_esm, out=out, **settings | arguments)


def test_against_one_sequence_at_a_time(fasta, tiny_esm, reference, tmp_path):
    out = tmp_path / "out.safetensors"
    proteins = run(fasta, tiny_esm, out)
    means = {p: reference(text).mean(axis=0) for p, _, _, text in PROTEINS}
    expected = {}
    for p, g, _, _ in PROTEINS:
        expected.setdefault(g, []).append(means[p])
    assert proteins.names.tolist() == list(expected)
    assert proteins.symbols.tolist() == ["OR4F5", "OR4F29", "UNUSUAL", "LONG", "ONE"]
    vectors = np.array([np.mean(isoforms, axis=0) for isoforms in expected.values()])
    np.testing.assert_allclose(proteins.matrix, vectors, rtol=1e-4, atol=1e-5)
    assert not np.allclose(vectors[0], means["ENSP00000493376.2"], atol=1e-2)

    loaded = ProteinEmbeddings.load(out)
    np.testing.assert_array_equal(loaded.matrix, proteins.matrix)
    assert loaded.symbols.tolist() == proteins.symbols.tolist()
    assert tiny_esm.name in loaded.source
    assert sorted(path.name for path in tmp_path.iterdir()) == [fasta.name, out.name]
    assert loaded.align(["OR4F5"]).has_vector.all()


@pytest.mark.parametrize("budget", [302, 10_000])
def test_batches_do_not_change_the_result(budget, fasta, tiny_esm, tmp_path):
    one = run(fasta, tiny_esm, tmp_path / "a.safetensors")
    other = run(fasta, tiny_esm, tmp_path / "b.safetensors", max_tokens_per_batch=budget)
    np.testing.assert_allclose(one.matrix, other.matrix, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("window", "overlap"), [(50, 0), (50, 10), (64, 24), (202, 5)])
def test_long_proteins(window, overlap, fasta, tiny_esm, reference, tmp_path):
    proteins = run(fasta, tiny_esm, tmp_path / "a.safetensors", window=window, overlap=overlap)
    text = PROTEINS[4][3]
    core = window - 2 * overlap
    parts = -(-len(text) // core)
    edges = [len(text) * part // parts for part in range(parts + 1)]
    residues = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        left, right = max(0, start - overlap), min(len(text), stop + overlap)
        assert right - left <= window
        residues.append(reference(text[left:right])[start - left : stop - left])
    residues = np.concatenate(residues)
    assert len(residues) == len(text)
    row = proteins.names.tolist().index("ENSG00000000002")
    np.testing.assert_allclose(proteins.matrix[row], residues.mean(axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 10, 11, 25, 400])
@pytest.mark.parametrize(("window", "overlap"), [(10, 0), (10, 4), (25, 12)])
def test_every_residue_counts_once(length, window, overlap):
    text = sequence(0, length)
    windows = cut(text, window, overlap)
    assert "".join(part.sequence[part.start : part.stop] for part in windows) == text
    assert max(len(part.sequence) for part in windows) <= window


def test_a_stopped_run_goes_on(fasta, tiny_esm, tmp_path, monkeypatch):
    whole = run(fasta, tiny_esm, tmp_path / "whole.safetensors")
    out, calls = tmp_path / "out.safetensors", []
    sums = Esm.sums

    def stop_at_third(self, windows):
        calls.append(len(windows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sums(self, windows)

    monkeypatch.setattr(Esm, "sums", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run(fasta, tiny_esm, out, window=30, overlap=2, max_tokens_per_batch=64)
    assert not out.exists()
    (partial,) = tmp_path.glob("out.safetensors.*.partial")
    done = sum(calls[:2])

    calls.clear()
    monkeypatch.setattr(Esm, "sums", lambda self, w: (calls.append(len(w)), sums(self, w))[1])
    again = run(fasta, tiny_esm, out, window=30, overlap=2, max_tokens_per_batch=64)
    fresh = run(
        fasta, tiny_esm, tmp_path / "f.safetensors", window=30, overlap=2, max_tokens_per_batch=64
    )
    np.testing.assert_allclose(again.matrix, fresh.matrix, rtol=1e-5, atol=1e-6)
    total = len({p for _, _, _, text in PROTEINS for p in cut(text.upper(), 30, 2)})
    assert sum(calls) == 2 * total - done
    assert not partial.exists()
    assert len(whole) == len(again)


def test_finished_work_is_written_now_and_then(tmp_path):
    shards = Shards(tmp_path / "s", every=0)
    shards.add(["a", "b"], np.ones((2, 3), dtype=np.float32))
    shards.add(["c"], np.zeros((1, 3), dtype=np.float32))
    again = Shards(tmp_path / "s")  # as after a kill: nothing more was written
    assert len(again) == 3
    assert "a" in again
    assert "d" not in again
    np.testing.assert_array_equal(again["b"], np.ones(3))
    assert sorted(path.suffix for path in (tmp_path / "s").iterdir()) == [".safetensors"] * 2


def test_damaged_partial_results_are_computed_anew(fasta, tiny_esm, tmp_path, monkeypatch):
    out = tmp_path / "out.safetensors"
    monkeypatch.setattr(ProteinEmbeddings, "save", lambda self, path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(fasta, tiny_esm, out)
    monkeypatch.undo()
    (partial,) = tmp_path.glob("out.safetensors.*.partial")
    for path in partial.iterdir():
        path.write_bytes(b"cut off")
    with pytest.warns(UserWarning, match="damaged and is computed anew"):
        proteins = run(fasta, tiny_esm, out)
    assert len(proteins) == 5


def test_partial_results_of_another_precision_are_not_used(fasta, tiny_esm):
    prints = {
        dtype: Esm(str(tiny_esm), "cpu", dtype, True, None).fingerprint
        for dtype in ("float32", "bfloat16")
    }
    assert len(set(prints.values())) == 2


def test_bfloat16(fasta, tiny_esm, tmp_path):
    exact = run(fasta, tiny_esm, tmp_path / "a.safetensors")
    rough = run(fasta, tiny_esm, tmp_path / "b.safetensors", dtype="bfloat16")
    assert rough.matrix.dtype == np.float32
    np.testing.assert_allclose(rough.matrix, exact.matrix, atol=0.15)


def test_progress_is_shown(fasta, tiny_esm, tmp_path, capsys):
    run(fasta, tiny_esm, tmp_path / "a.safetensors", progress=True)
    assert "ESM-2: 100%" in capsys.readouterr().err


def test_existing_output_is_kept(fasta, tiny_esm, tmp_path):
    out = tmp_path / "out.safetensors"
    out.write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        run(fasta, tiny_esm, out)
    assert out.read_text() == "precious"
    run(fasta, tiny_esm, out, overwrite=True)
    assert len(ProteinEmbeddings.load(out)) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window=0"),
        ({"overlap": 150}, "overlap=150 must be at least 0 and less than half"),
        ({"overlap": -1}, "overlap=-1"),
        ({"max_tokens_per_batch": 301}, "must be at least 302"),
        ({"dtype": "float8"}, "dtype='float8'"),
        ({"out": "x.pt"}, r"end it in \.safetensors"),
        ({"fasta": []}, "No FASTA file"),
    ],
)
def test_wrong_arguments(arguments, message, fasta, tiny_esm, tmp_path):
    settings = {"fasta": fasta, "out": tmp_path / "o.safetensors", "overlap": 16} | arguments
    with pytest.raises(ValueError, match=message):
        run(settings.pop("fasta"), tiny_esm, settings.pop("out"), **settings)


def test_wrong_models(fasta, tiny_esm, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(OSError, match=r"config\.json, vocab\.txt"):
        run(fasta, empty, tmp_path / "o.safetensors")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="is a 'bert' model, not ESM-2"):
        run(fasta, other, tmp_path / "o.safetensors")
    monkeypatch.setattr("scenc.genes._esm.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'scenc\[esm\]'"):
        run(fasta, tiny_esm, tmp_path / "o.safetensors")


def test_pickled_weights_are_refused_by_default(fasta, tiny_esm, tmp_path):
    from transformers import EsmModel

    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in tiny_esm.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    state = EsmModel.from_pretrained(tiny_esm, add_pooling_layer=False).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors_only=False"):
        run(fasta, folder, tmp_path / "o.safetensors")
    trusted = run(fasta, folder, tmp_path / "o.safetensors", safetensors_only=False)
    safe = run(fasta, tiny_esm, tmp_path / "p.safetensors")
    np.testing.assert_array_equal(trusted.matrix, safe.matrix)


def test_weights_that_are_missing_are_noticed(fasta, tiny_esm, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "incomplete"
    folder.mkdir()
    for file in tiny_esm.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    state = load_file(folder / "model.safetensors")
    state.pop(next(key for key in state if key.endswith("output.dense.weight")))
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights of an ESM-2 model"):
        run(fasta, folder, tmp_path / "o.safetensors")


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        (
            HEADER.format(p="ENSP1.1", g="ENSG00000186092", s="OR4F5")[1:],
            ("ENSP1.1", "ENSG00000186092.7", "OR4F5"),
        ),
        ("ENSP1.1 pep gene:ENSG00000186092.7 transcript:x", ("ENSP1.1", "ENSG00000186092.7", "")),
        (
            "sp|P04217|A1BG_HUMAN Alpha-1B-glycoprotein OS=Homo sapiens OX=9606 GN=A1BG PE=1 SV=4",
            ("P04217", "", "A1BG"),
        ),
        ("tr|A0A024|A0A_HUMAN Protein OS=Homo sapiens OX=9606 PE=4 SV=1", ("A0A024", "", "")),
        ("sp|Q1-2|X_HUMAN Isoform 2 OS=Homo sapiens GN=HLA-A", ("Q1-2", "", "HLA-A")),
        (
            "ENSP1.2|ENST1.2|ENSG00000186092.7|OTTHUMG1|OTTHUMT1|OR4F5-201|OR4F5|326",
            (
                "ENSP1.2|ENST1.2|ENSG00000186092.7|OTTHUMG1|OTTHUMT1|OR4F5-201|OR4F5|326",
                "ENSG00000186092.7",
                "OR4F5",
            ),
        ),
        ("A1BG my own", ("A1BG", "", "A1BG")),
    ],
)
def test_headers(header, parts):
    assert parse_header(header) == parts


def write(path, text):
    path.write_text(text)
    return path


def test_fasta_of_uniprot(tmp_path):
    path = write(
        tmp_path / "u.fasta",
        ">sp|P1|A_HUMAN x GN=A1BG PE=1\nMKV*\n>sp|P1-2|A_HUMAN y GN=A1BG PE=1\nM-KJ*V\n"
        ">tr|Q9|Q9_HUMAN nameless PE=4\nmk v\n>tr|Q8|Q8_HUMAN empty GN=E\n*\n",
    )
    proteins, notes = read_fasta([path])
    assert [(p.gene, p.sequence) for p in proteins] == [
        ("A1BG", "MKV"),
        ("A1BG", "MKXXV"),
        ("Q9", "MKV"),
    ]
    assert len(notes) == 3
    assert "1 records without a sequence" in notes[0]


def test_repeated_records(tmp_path):
    first = write(tmp_path / "a.fa", ">P1 gene:G1\nMKV\n")
    second = write(tmp_path / "b.fa", ">P1 gene:G1\nMKV\n>P2 gene:G1\nMK\n")
    proteins, notes = read_fasta([first, second])
    assert len(proteins) == 2
    assert "1 records were there more than once" in notes[0]
    third = write(tmp_path / "c.fa", ">P1 gene:G1\nMKVV\n")
    with pytest.raises(ValueError, match=r"c\.fa: P1 was read before with another sequence"):
        read_fasta([first, third])
    named = write(tmp_path / "d.fa", ">A1BG\nMKV\n>A1BG\nMK\n")
    assert len(read_fasta([named])[0]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MKV\n", "line 1 comes before any header"),
        (">\nMKV\n", "header in line 1 is empty"),
        ("", "no protein sequences"),
        (">A\n\n", "no protein sequences"),
        (">A\nMK7V\n", "A has '7' at residue 3"),
        (">A\n" + "ACGT" * 10 + "\n", "nucleotides"),
    ],
)
def test_wrong_fasta(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_fasta([write(tmp_path / "a.fa", text)])


def test_names_that_differ_in_capitals_are_refused_at_once(tiny_esm, tmp_path, monkeypatch):
    path = write(tmp_path / "a.fa", ">A1BG\nMKV\n>a1bg\nMK\n")
    monkeypatch.setattr(module, "Esm", None)
    with pytest.raises(ValueError, match="'A1BG' and 'a1bg' differ in capitals only"):
        run(path, tiny_esm, tmp_path / "o.safetensors")


def test_missing_fasta(tiny_esm, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.fa"):
        run(tmp_path / "none.fa", tiny_esm, tmp_path / "o.safetensors")
