"""Models in folders and repositories that others made."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pickle
import re
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
import yaml

import scenc
from scenc.metrics import knn_classification
from scenc.model import Model, ModelFileError

FILES = ["README.md", "config.json", "genes.tsv", "model.safetensors"]
REPO = "lab/pbmc"


@pytest.fixture
def folder(trained, tmp_path):
    """A shared model, to be damaged."""
    trained.save_pretrained(tmp_path / "shared")
    return tmp_path / "shared"


class Hub:
    """The part of the Hub's protocol that reading and writing a model needs, in memory."""

    def __init__(self):
        self.commits = {}  # repository -> commit -> path -> content
        self.branches = {}  # repository -> branch -> commit
        self.requests = []
        self.headers = []
        self.address = ""

    def add(self, repo, files, branch="main"):
        """Commit files to a repository; what is there before stays."""
        old = self.find(repo, branch) if repo in self.commits else {}
        content = {**(old or {}), **files}
        text = repr(sorted(content.items())).encode() + str(len(self.requests)).encode()
        commit = hashlib.sha1(text).hexdigest()
        self.commits.setdefault(repo, {})[commit] = content
        self.branches.setdefault(repo, {})[branch] = commit
        return commit

    def find(self, repo, revision):
        commit = self.branches.get(repo, {}).get(revision, revision)
        return self.commits.get(repo, {}).get(commit)

    def commit_of(self, repo, revision):
        return self.branches.get(repo, {}).get(revision, revision)

    def answer(self, method, path, body):
        """Return status, headers and content."""
        if found := re.fullmatch(r"/(\w+/[\w-]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(*map(unquote, found.groups()))
        if path == "/api/repos/create":
            wanted = json.loads(body)
            repo = f"{wanted['organization']}/{wanted['name']}"
            if repo in self.commits:
                return 409, {}, json.dumps({"url": f"{self.address}/{repo}"})
            self.add(repo, {".gitattributes": b""})
            return 200, {}, json.dumps({"url": f"{self.address}/{repo}"})
        if path == "/api/validate-yaml":
            header = json.loads(body)["content"].split("---\n")[1]
            assert yaml.safe_load(header)["library_name"] == "scenc"
            return 200, {}, "{}"
        if found := re.fullmatch(r"/api/models/(\w+/[\w-]+)/branch/(\w+)", path):
            repo, branch = found.groups()
            self.branches[repo][branch] = self.branches[repo]["main"]
            return 200, {}, "{}"
        if found := re.fullmatch(r"/api/models/(\w+/[\w-]+)/preupload/(\w+)", path):
            # The Hub keeps large files apart; what huggingface_hub then does is its own matter.
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return 200, {}, json.dumps({"files": files})
        if found := re.fullmatch(r"/api/models/(\w+/[\w-]+)/revision/(\w+)", path):
            # Earlier versions of huggingface_hub ask.
            about = {"id": found[1], "sha": self.commit_of(*found.groups()), "xetEnabled": False}
            return 200, {}, json.dumps(about)
        if found := re.fullmatch(r"/api/models/(\w+/[\w-]+)/commit/(\w+)", path):
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            commit = self.add(found[1], files, found[2])
            done = {
                "success": True,
                "commitOid": commit,
                "commitUrl": f"{self.address}/{found[1]}/commit/{commit}",
            }
            return 200, {}, json.dumps(done)
        return 501, {}, f"the test's server does not know {method} {path}"

    def _resolve(self, repo, revision, name):
        if repo not in self.commits:
            # As the Hub answers, so that nobody learns which private ones there are.
            return 401, {"X-Error-Code": "RepoNotFound"}, ""
        files = self.find(repo, revision)
        if files is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, ""
        commit = {"X-Repo-Commit": self.commit_of(repo, revision)}
        if name not in files:
            return 404, {"X-Error-Code": "EntryNotFound", **commit}, ""
        tag = hashlib.sha1(files[name]).hexdigest()
        return 200, {"ETag": f'"{tag}"', **commit}, files[name]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A server of the protocol on this machine; downloads go into a folder of the test."""
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = urlsplit(self.path).path
            hub.requests.append(f"{self.command} {path}")
            hub.headers.append({name.lower(): text for name, text in self.headers.items()})
            status, headers, content = hub.answer(self.command, path, body)
            content = content.encode() if isinstance(content, str) else content
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = _reply

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def stored(hub, folder):
    """The Hub with a shared model, and the commit."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return hub.add(REPO, files)


def read(commit, tmp_path, **settings):
    how = {"revision": commit, "cache_dir": tmp_path / "cache", **settings}
    return Model.from_pretrained(REPO, **how)


# Folders.


def test_a_shared_folder_gives_the_same_model(trained, folder, make_adata):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    for load in (Model.from_pretrained, Model.load):
        loaded = load(folder)
        np.testing.assert_array_equal(
            loaded.get_latent_representation(make_adata()),
            trained.get_latent_representation(key_added=None),
        )
        assert loaded.config == trained.config
        assert loaded.history.keys() == trained.history.keys()


def test_a_folder_of_save_can_be_read_as_well(trained, tmp_path, adata):
    trained.save(tmp_path / "model")
    loaded = Model.from_pretrained(str(tmp_path / "model"), adata=adata)
    assert loaded.adata is adata


def test_models_of_0_1_are_read(adata):
    path = Path(__file__).with_name("version_0_1") / "contrastive_learned_soft"
    assert Model.from_pretrained(path).is_trained


def test_a_shared_model_can_be_shared_again(folder, tmp_path):
    Model.from_pretrained(folder).save_pretrained(tmp_path / "again")
    for name in ("model.safetensors", "genes.tsv"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_genes_are_a_table(adata, make_model, train, tmp_path):
    model = train(make_model(adata, n_top_genes=40))
    model.save_pretrained(tmp_path / "shared")
    table = pd.read_csv(tmp_path / "shared" / "genes.tsv", sep="\t")
    assert table["gene"][table["in_vocabulary"]].tolist() == model.vocabulary.tolist()
    assert table["gene"][~table["in_vocabulary"]].tolist() == model.counted.tolist()
    sums = np.asarray(adata.X.sum(axis=0)).ravel()
    shares = pd.Series(sums / sums.sum(), adata.var_names)[table["gene"]]
    np.testing.assert_allclose(table["count_share"], shares, rtol=1e-4)


def test_untrained_models_are_not_shared(adata, make_model, tmp_path):
    with pytest.raises(RuntimeError, match="not trained"):
        make_model(adata).save_pretrained(tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


def test_folders_are_replaced_only_if_asked(trained, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trained.save_pretrained(folder, description="other")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    trained.save_pretrained(folder, description="other", overwrite=True)
    assert "other" in (folder / "README.md").read_text()
    trained.save(folder, overwrite=True)
    assert Model.load(folder).is_trained


def test_models_of_other_programs_are_never_replaced(trained, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(FileExistsError, match="holds no scenc model"):
        trained.save_pretrained(tmp_path / "bert", overwrite=True)
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelFileError, match="does not describe a scenc model"):
        Model.from_pretrained(tmp_path / "bert")


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "../model", "a/b/c", "~/model"])
def test_what_can_be_no_repository_is_a_missing_folder(name):
    with pytest.raises(FileNotFoundError, match=f"There is no folder {re.escape(name)}"):
        Model.from_pretrained(name)


def test_folders_have_no_revisions(folder):
    with pytest.raises(ValueError, match="which has no revisions"):
        Model.from_pretrained(folder, revision="main")


def test_names_of_files_are_not_shared(atlas, train, tmp_path):
    paths = atlas[0][:3]
    layers = {str(path): "X" if path.name != "b.h5ad" else "raw" for path in paths}
    files = scenc.data.CellFiles(paths, batch_key="donor", layer=layers, progress=False)
    model = train(
        Model(datamodule=files, objective="masked", d_model=8, n_layers=1, n_heads=2), max_epochs=1
    )
    model.save_pretrained(tmp_path / "shared")
    text = (tmp_path / "shared" / "config.json").read_text()
    assert str(paths[0].parent) not in text
    assert Model.from_pretrained(tmp_path / "shared").is_trained


# Damage and malice.


def sign(folder):
    """Make the JSON vouch for the files that are there."""
    card = json.loads((folder / "config.json").read_text())
    for key, name in (("sha256", "model.safetensors"), ("genes_sha256", "genes.tsv")):
        card[key] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(card))


class Payload:
    """Leaves a trace if it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def as_pickle(folder):
    content = pickle.dumps(Payload(folder.parent / "executed"))
    (folder / "model.safetensors").write_bytes(content)


def with_oversized_header(folder):
    content = struct.pack("<Q", 2**40) + b"{}"
    (folder / "model.safetensors").write_bytes(content)


def with_overlapping_tensors(folder):
    header = json.dumps(
        {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in "ab"}
    ).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))


HOSTILE = [as_pickle, with_oversized_header, with_overlapping_tensors]


@pytest.mark.parametrize("change", HOSTILE)
def test_hostile_weights_are_refused(folder, change):
    change(folder)
    with pytest.raises(ModelFileError, match="checksums differ"):
        Model.from_pretrained(folder)
    sign(folder)
    with pytest.raises(ModelFileError, match="damaged"):
        Model.from_pretrained(folder)
    assert not (folder.parent / "executed").exists()


def test_other_genes_than_the_models_are_refused(folder):
    text = (folder / "genes.tsv").read_text()
    (folder / "genes.tsv").write_text(text.replace("FAKE1\t", "FAKE999\t"))
    with pytest.raises(ModelFileError, match=r"genes\.tsv is not the file .*checksums differ"):
        Model.from_pretrained(folder)


def test_a_huge_description_is_not_read(folder):
    with (folder / "config.json").open("r+b") as file:
        file.truncate(2**28 + 1)  # a hole, which takes no room
    with pytest.raises(ModelFileError, match="no model needs so many"):
        Model.from_pretrained(folder)


def test_the_card_may_be_edited_or_missing(folder):
    (folder / "README.md").write_text("my own words")
    assert Model.from_pretrained(folder).is_trained
    (folder / "README.md").unlink()
    (folder / "genes.tsv").unlink()
    assert Model.from_pretrained(folder).is_trained


# Cards.


def header_and_body(folder):
    _, header, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(header), body


def test_a_card_says_what_the_model_is(trained, folder):
    header, body = header_and_body(folder)
    assert header["library_name"] == "scenc"
    assert header["pipeline_tag"] == "feature-extraction"
    assert "license" not in header
    assert "model-index" not in header
    for tag in (
        "biology",
        "genomics",
        "single-cell",
        "model_cls_name:Model",
        "modality:rna",
        "annotated:True",
        "gene_encoder:learned",
        "expression_encoder:soft",
        f"scenc_version:{scenc.__version__}",
    ):
        assert tag in header["tags"]
    assert not any(tag.startswith("organism:") for tag in header["tags"])
    best = trained.history["reconstruction_loss_validation"].iloc[:, 0]
    for part in (
        "| cells | 120 |",
        "| batches | 2 (`batch`) |",
        "| labels | 3 (`cell_type`)",
        "The vocabulary has 60 genes (FAKE0, FAKE1, FAKE2, FAKE3, FAKE4, ...)",
        "2 epochs, 8 steps",
        f"Best validation: reconstruction_loss_validation {best.min():.4g}",
        f"| 3 | {trained.history['train_loss'].iloc[3, 0]:.4g} | {best.loc[3]:.4g} |",
        "None is given: ask the author",
        "d_model: 16",
    ):
        assert part in body


def test_an_author_says_more(trained, folder, make_adata):
    labels = make_adata().obs["cell_type"]
    embedding = trained.get_latent_representation(key_added=None)
    scores = knn_classification(embedding, labels, min_cells=10)
    trained.save_pretrained(
        folder,
        license="cc-by-4.0",
        description="For **blood**.",
        organism="human",
        tissues=["blood", "spleen"],
        dataset="simulated cells",
        scores=scores,
        repo=REPO,
        overwrite=True,
    )
    header, body = header_and_body(folder)
    assert header["license"] == "cc-by-4.0"
    assert {"organism:human", "tissue:blood", "tissue:spleen"} <= set(header["tags"])
    for part in ("For **blood**.", f'from_pretrained("{REPO}")', "Measured on simulated cells."):
        assert part in body
    (model,) = header["model-index"]
    (result,) = model["results"]
    assert model["name"] == "pbmc"
    assert result["dataset"]["name"] == "simulated cells"
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    # Undefined ones, such as the spread over one split, are left out.
    assert values.keys() == {"accuracy", "macro_f1"}
    assert values["macro_f1"] == pytest.approx(scores.macro_f1, abs=1e-6)


def test_the_hub_understands_the_card(trained, folder):
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    trained.save_pretrained(folder, scores={"nmi": 0.5}, license="mit", overwrite=True)
    data = hub.ModelCard.load(folder / "README.md").data
    assert data.library_name == "scenc"
    assert data.pipeline_tag == "feature-extraction"
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("nmi", 0.5)


@pytest.mark.filterwarnings("ignore:The embedding")
def test_a_check_goes_into_the_card(trained, folder):
    check = trained.check()
    trained.save_pretrained(folder, scores=check, overwrite=True)
    header, body = header_and_body(folder)
    assert check.conclude() in body
    embedding, components, _ = check.scores.loc["label_f1"]
    assert f"| label_f1 | {embedding:.3f} | {components:.3f} |" in body
    assert header["model-index"][0]["results"][0]["metrics"][0]["type"] == "label_f1"


@pytest.mark.parametrize("scores", ["good", {"nmi": "good"}, 0.5])
def test_scores_that_are_none_are_refused(trained, tmp_path, scores):
    with pytest.raises(TypeError, match="numbers by name"):
        trained.save_pretrained(tmp_path / "shared", scores=scores)
    assert not (tmp_path / "shared").exists()


@pytest.mark.parametrize(
    ("genes", "organism", "n_human"),
    [
        (["CD3D", "MS4A1", "LYZ", "GNLY", "NKG7"], "human", 5),
        (["CD3D", "MS4A1", "LYZ", "FAKE1", "FAKE2"], "human", 3),
        ([f"ENSMUSG{i:011d}" for i in range(5)], "mouse", 0),
    ],
)
def test_gene_names_tell_the_organism(
    make_adata, make_counts, make_model, train, tmp_path, genes, organism, n_human
):
    adata = make_adata(make_counts(40, 5))
    adata.var_names = genes
    train(make_model(adata), max_epochs=1).save_pretrained(tmp_path / "shared")
    header, body = header_and_body(tmp_path / "shared")
    assert f"organism:{organism}" in header["tags"]
    assert f"| organism | {organism} |" in body
    assert (f"{n_human} of them are found in the table of human genes" in body) == (n_human > 0)


def test_the_cards_code_runs(trained, make_adata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained.save_pretrained("my_model")
    make_adata().write_h5ad("query.h5ad")
    (code,) = re.findall(r"```python\n(.*?)```", Path("my_model/README.md").read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    np.testing.assert_array_equal(
        names["adata"].obsm["X_scenc"], trained.get_latent_representation(key_added=None)
    )


# Repositories.


def test_a_repository_gives_the_same_model(trained, hub, stored, tmp_path, make_adata):
    loaded = read(stored, tmp_path)
    np.testing.assert_array_equal(
        loaded.get_latent_representation(make_adata()),
        trained.get_latent_representation(key_added=None),
    )
    assert all(f"scenc/{scenc.__version__}" in headers["user-agent"] for headers in hub.headers)


def test_without_a_revision_there_is_a_warning(hub, stored, tmp_path):
    with pytest.warns(UserWarning, match=f"may be another model tomorrow. revision='{stored}'"):
        assert read(None, tmp_path).is_trained


def test_revisions_are_told_apart(hub, stored, tmp_path, adata, make_model, train):
    train(make_model(adata, d_model=8)).save_pretrained(tmp_path / "other")
    files = {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}
    hub.add(REPO, files)
    assert read("main", tmp_path).config.d_model == 8
    assert read(stored, tmp_path).config.d_model == 16


def test_only_the_models_own_files_are_downloaded(hub, stored, tmp_path):
    hostile = {"../../evil.py": b"", "pytorch_model.bin": b"", "genes/../../../x": b""}
    commit = hub.add(REPO, hostile)
    read(commit, tmp_path)
    asked = {request.split(f"/resolve/{commit}/")[1] for request in hub.requests}
    assert asked == set(FILES)
    inside = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_symlink()}
    assert inside <= set(FILES)


def test_what_was_downloaded_needs_no_network(hub, stored, tmp_path):
    read(stored, tmp_path)
    before = len(hub.requests)
    assert read(stored, tmp_path, local_files_only=True).is_trained
    assert len(hub.requests) == before
    with pytest.raises(ConnectionError, match="not in the cache"):
        read(stored, tmp_path, cache_dir=tmp_path / "empty", local_files_only=True)


def test_damage_on_the_way_is_found(hub, stored, folder, tmp_path):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    commit = hub.add(REPO, {"model.safetensors": bytes(content)})
    with pytest.raises(ModelFileError, match="checksums differ"):
        read(commit, tmp_path)


def test_repositories_of_other_programs_are_refused_before_their_weights(hub, tmp_path):
    commit = hub.add(REPO, {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x"})
    with pytest.raises(ModelFileError, match="does not describe a scenc model"):
        read(commit, tmp_path)
    assert not any("model.safetensors" in request for request in hub.requests)


def test_a_repository_of_a_saved_model_is_read(trained, hub, tmp_path):
    trained.save(tmp_path / "saved")
    files = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    assert read(hub.add(REPO, files), tmp_path).is_trained


def test_what_is_missing_is_named(hub, stored, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{REPO} .* has no revision 'gone'"):
        read("gone", tmp_path)
    with pytest.raises(FileNotFoundError, match="neither a folder lab/other nor a repository"):
        Model.from_pretrained("lab/other", "main", cache_dir=tmp_path / "cache")
    pickled = hub.add("lab/pickled", {"pytorch_model.bin": b"x"})
    with pytest.raises(FileNotFoundError, match="holds no scenc model"):
        Model.from_pretrained("lab/pickled", pickled, cache_dir=tmp_path / "cache")


def test_a_model_is_pushed_and_read_again(trained, hub, tmp_path, make_adata):
    commit = trained.push_to_hub(REPO, license="mit", private=True, token="hf_secret")
    assert set(hub.find(REPO, "main")) == {".gitattributes", *FILES}
    assert hub.commit_of(REPO, "main") == commit
    assert {headers["authorization"] for headers in hub.headers} == {"Bearer hf_secret"}
    card = hub.find(REPO, "main")["README.md"].decode()
    assert "license: mit" in card
    assert f'from_pretrained("{REPO}")' in card
    np.testing.assert_array_equal(
        read(commit, tmp_path).get_latent_representation(make_adata()),
        trained.get_latent_representation(key_added=None),
    )


def test_a_model_of_a_repository_is_replaced_only_if_asked(trained, hub, stored):
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trained.push_to_hub(REPO)
    assert hub.commit_of(REPO, "main") == stored
    commit = trained.push_to_hub(REPO, description="new words", overwrite=True)
    assert hub.commit_of(REPO, "main") == commit
    assert hub.find(REPO, stored)  # still there


def test_a_branch_may_be_named(trained, hub, stored):
    commit = trained.push_to_hub(REPO, branch="next", description="new", overwrite=True)
    assert hub.commit_of(REPO, "next") == commit
    assert hub.commit_of(REPO, "main") == stored


def test_mistakes_are_found_before_anything_is_sent(trained, hub, adata, make_model):
    with pytest.raises(TypeError, match="Did you mean 'license'"):
        trained.push_to_hub(REPO, licence="mit")
    with pytest.raises(RuntimeError, match="not trained"):
        make_model(adata).push_to_hub(REPO)
    assert not hub.requests


def test_the_command_line_embeds_by_a_repository(
    trained, hub, stored, make_adata, tmp_path, monkeypatch
):
    import anndata
    from typer.testing import CliRunner

    from scenc.cli._app import app

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    make_adata().write_h5ad(tmp_path / "cells.h5ad")
    files = [str(tmp_path / "cells.h5ad"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["embed", REPO, *files, "--revision", stored])
    assert result.exit_code == 0, result.output
    embedded = anndata.read_h5ad(tmp_path / "out" / "cells.h5ad")
    np.testing.assert_array_equal(
        embedded.obsm["X_scenc"], trained.get_latent_representation(key_added=None)
    )
    result = CliRunner().invoke(app, ["embed", REPO, *files])
    assert "the --revision of a repository" in str(result.exception)


def test_a_server_that_is_not_there_is_named(trained, monkeypatch):
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9 cannot be reached"):
        trained.push_to_hub(REPO)


def test_without_huggingface_hub_folders_work(trained, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert Model.from_pretrained(folder).is_trained
    for call in (lambda: Model.from_pretrained(REPO), lambda: trained.push_to_hub(REPO)):
        with pytest.raises(ImportError, match=re.escape("pip install 'scenc[hub]'")):
            call()
    assert os.listdir(folder)
