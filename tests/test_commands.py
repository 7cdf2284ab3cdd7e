"""The commands for own images, as a user types them: a folder of mixed files, killed, resumed, used."""

import inspect
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import scoreae as sa

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def command(*arguments) -> list[str]: return [sys.executable, "-m", "scoreae", *map(str, arguments)]


def call(*arguments, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=ENV)
    assert done.returncode == code, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    "Sixty pictures as PNG and JPEG, grey and colour, of several sizes, and a file that is none."
    folder = tmp_path_factory.mktemp("own") / "photos"
    (folder / "more").mkdir(parents=True)
    for i, image in enumerate(sa.data.to_uint8(sa.data.patches(size=40, limit=60))):
        a = image.permute(1, 2, 0).numpy()[: 40 - i % 5]
        where = folder / ("more" if i % 4 == 0 else "") / f"{i}.{'jpg' if i % 3 else 'png'}"
        Image.fromarray(a[..., 0] if i % 7 == 0 else a).save(where)
    (folder / "read me.txt").write_text("holiday")
    return folder


@pytest.fixture(scope="module")
def run(photos) -> Path:
    "A run that was killed once and resumed, by the command."
    out = photos.parent / "run"
    line = ["train", photos, "--model", "sami", "--z-dim", 4, "--steps", 24, "--width", 8, "--size", 16]
    line += ["--batch-size", 16, "--every", 6, "--no-progress", "--out", out]
    with subprocess.Popen(command(*line), env=ENV, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        while process.poll() is None and not list(out.glob("state-*")): time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    call("train", "--resume", "--no-progress", "--out", out)
    return out


def test_a_run_leaves_model_report_and_preview(run):
    assert {"report.html", "preview.png", "run.json", "config.json"} <= {p.name for p in run.iterdir()}
    page = (run / "report.html").read_text()
    for heading in ("Images", "Losses", "Reconstructions", "Axes", "Interpolation", "Samples", "Neighbours", "Numbers"):
        assert f"<h2>{heading}</h2>" in page
    assert "http" not in page and "<script" not in page
    assert sa.load(run).trained["ended"] == "budget"


def test_images_go_in_and_out(run, photos, tmp_path):
    call("encode", run, photos, "--out", tmp_path / "z.npy")
    assert np.load(tmp_path / "z.npy").shape == (60, 4)
    call("reconstruct", run, photos, "--steps", 2, "--mode", "sample", "--out", tmp_path / "again")
    assert len(list((tmp_path / "again").glob("*.png"))) == 60
    call("sample", run, "--n", 3, "--steps", 2, "--out", tmp_path / "drawn.npy")
    assert np.load(tmp_path / "drawn.npy").shape == (3, 3, 16, 16)
    call("interpolate", run, photos / "1.jpg", photos / "2.jpg", "--n", 4, "--steps", 2, "--out", tmp_path / "line")
    assert len(list((tmp_path / "line").glob("*.png"))) == 4
    call("evaluate", run, "--steps", 2, "--out", tmp_path / "row.json")
    assert "bits/dim" in json.loads((tmp_path / "row.json").read_text())[0]
    assert "codes of 4 numbers" in call("info", run).stdout


@pytest.mark.parametrize(("line", "said"), [
    (["train"], "images: expected a file or folder of images"),
    (["train", "nowhere"], "images: expected a file or folder that exists"),
    (["train", "PHOTOS", "--model", "gan"], "model: expected one of"),
    (["train", "PHOTOS", "--out", "RUN", "--size", "16", "--width", "8", "--steps", "24"], "resume=True"),
    (["train", "--out", "RUN", "--resume", "--lr", "0.5"], "lr: 0.001 -> 0.5"),
    (["encode", "nowhere", "PHOTOS"], "folder: expected a saved model"),
    (["encode", "RUN", "PHOTOS", "--out", "codes.txt"], "out: expected an .npy file"),
    (["evaluate", "PHOTOS"], "folder: expected a run"),
    (["interpolate", "RUN", "PHOTOS"], "required: second"),
    (["edit", "RUN", "PHOTOS"], "labels: expected a file of labels, or else an axis"),
    (["edit", "RUN", "PHOTOS", "--axis", "9"], "axis: expected an integer >= 0 and <= 3"),
    (["edit", "RUN", "PHOTOS", "--labels", "gone.csv"], "labels: expected a .csv or .npy file that exists"),
    (["edit", "RUN", "PHOTOS", "--axis", "1", "--amounts", "far"], "invalid float value: 'far'"),
    (["explore", "PHOTOS"], "folder: expected a"),
    (["train", "PHOTOS", "--minutes", "0", "--out", "new", "--width", "8"], "minutes: expected a finite number in (0"),
    (["train", "PHOTOS", "--minutes", "1", "--steps", "9", "--out", "new", "--width", "8"], "not both"),
])  # fmt: skip
def test_errors_are_one_line(line, said, run, photos, capsys, monkeypatch, tmp_path):
    from scoreae.commands.command_line import main

    monkeypatch.chdir(tmp_path)
    places = {"PHOTOS": str(photos), "RUN": str(run)}
    try: status = main([places.get(word, word) for word in line])
    except SystemExit as e: status = e.code
    error = capsys.readouterr().err
    assert status == 2 and said in error and error.count("\n") == 1


LIST = ("demo", "train", "encode", "reconstruct", "sample", "interpolate", "edit", "evaluate", "bench", "explore")
LIST += ("info",)


@pytest.mark.parametrize("name", LIST)
def test_help_has_an_example(name, capsys):
    from scoreae.commands.command_line import main

    with pytest.raises(SystemExit) as end: main([name, "--help"])
    assert end.value.code == 0 and f"example: scoreae {name} " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", LIST)
def test_options_are_named_as_in_python(name):
    "The arguments of a command's function, no more and no less, with the same defaults."
    from dataclasses import asdict

    from scoreae.commands import command_line
    from scoreae.commands.making import SETTINGS

    choices = next(a for a in command_line.parser()._actions if a.dest == "command").choices
    options = {a.dest: a.default for a in choices[name]._actions if a.dest not in ("help", "debug")}
    fn = {"demo": command_line.demo, "bench": command_line.bench}.get(name) or command_line.COMMANDS[name][0]
    known = {k: v for k, v in inspect.signature(fn).parameters.items() if v.kind is not v.VAR_KEYWORD}
    more = {"train": dict.fromkeys(SETTINGS), "bench": asdict(command_line.Contest())}.get(name, {})
    needed = {k for k, v in known.items() if v.default is v.empty}
    want = {k: None if k in needed else v.default for k, v in known.items()} | more
    hidden = {"progress"} if name in ("demo", "bench") else set()
    assert {k: v for k, v in want.items() if k not in hidden} == options


def test_debug_shows_the_error_and_an_interrupt_has_its_own_status(monkeypatch, capsys):
    from scoreae.commands import command_line

    for line in (["--debug", "info", "nowhere"], ["info", "nowhere", "--debug"]):
        with pytest.raises(ValueError, match="folder: expected a saved model"): command_line.main(line)

    def interrupted(run: str): raise KeyboardInterrupt

    interrupted.__doc__ = "Stop."
    monkeypatch.setitem(command_line.COMMANDS, "info", (interrupted, "runs/photos"))
    assert command_line.main(["info", "x"]) == 130 and capsys.readouterr().err == "scoreae: interrupted\n"


def test_minutes_are_kept(photos, tmp_path):
    line = ["train", photos, "--model", "ae", "--minutes", 0.05, "--width", 8, "--size", 8, "--z-dim", 2]
    call(*line, "--no-report", "--no-progress", "--out", tmp_path / "run")
    done = sa.load(tmp_path / "run").trained
    assert done["ended"] == "budget" and done["steps"] > 1 and 3 <= done["seconds"] < 60


def test_edit_moves_an_attribute(run, photos, tmp_path):
    "Labels of files, a folder to edit, and a picture for each amount; the same by an array of labels."
    files = sorted(p for p in photos.rglob("*") if p.suffix in (".png", ".jpg"))
    names = [p.relative_to(photos).as_posix() for p in files]
    grey = [float(sa.data.load(p, 16, 3).mean()) for p in files]
    rows = ["file,mood,grey", *(f"{n},{'happy' if v > 0 else 'sad'},{v}" for n, v in zip(names, grey, strict=True))]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    how = ["--labels", tmp_path / "labels.csv", "--steps", 2, "--amounts", -1, 1]
    call("edit", run, photos, *how, "--column", "grey", "--out", tmp_path / "grey.npy")
    assert np.load(tmp_path / "grey.npy").shape == (2, 60, 3, 16, 16)
    call("edit", run, photos, *how, "--out", tmp_path / "mood")
    made = sorted(p.name for p in (tmp_path / "mood").iterdir())
    assert len(made) == 120 and made[:2] == ["00000_+1.png", "00000_-1.png"]
    call("edit", run, photos, "--axis", 1, "--steps", 3, "--amounts", 2, "--hold", "--out", tmp_path / "axis.npy")
    assert np.load(tmp_path / "axis.npy").shape == (1, 60, 3, 16, 16)


def test_explore_writes_report_and_a_notebook_that_runs(run, tmp_path):
    "The notebook stands in the folder of the run, which may have been moved, and makes four sliders."
    import shutil

    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    said = call("explore", run, "--limit", 4).stdout
    assert f"jupyter lab {run / 'explore.ipynb'}" in said
    assert (run / "report.html").read_text() == before, "the report is the one that the training wrote"
    shutil.copytree(run, tmp_path / "moved")
    nb = nbformat.read(tmp_path / "moved" / "explore.ipynb", 4)
    nbformat.validate(nb)
    nbclient.NotebookClient(nb, timeout=300, resources={"metadata": {"path": str(tmp_path / "moved")}}).execute()
    views = [o for c in nb.cells for o in c.get("outputs", []) if "widget-view" in str(o.get("data", {}))]
    assert len(views) == 4


def test_encoder_passes_the_checks_that_apply():
    "Of scikit-learn's checks of transformers, only those fail that send images of another size or range."
    from sklearn.utils.estimator_checks import check_estimator

    torch.manual_seed(0)
    encoder = sa.Encoder(sa.AE((1, 2, 2), 2, width=8).eval())
    found = check_estimator(encoder, on_skip=None, on_fail=None)
    reasons, brief = ("expected rows of 4 values", "values in [-1, 1]"), ("check_fit2d_1sample", "check_fit2d_1feature")
    for f in found:  # the two brief ones want sklearn's words for rows that are refused for their length
        told = f["check_name"] in brief or any(r in str(f["exception"]) for r in reasons)
        assert f["status"] != "failed" or told, f
    passed = {f["check_name"] for f in found if f["status"] == "passed"}
    must = {"estimator_cloneable", "no_attributes_set_in_init", "get_params_invariance", "set_params", "estimator_repr"}
    assert {f"check_{name}" for name in must} <= passed


def test_encoder_is_a_transformer_for_rows_of_its_length(tmp_path):
    "What the other checks ask for: order, subsets, types, read-only memory, idempotence, clones, pickles, names."
    from sklearn.base import clone

    torch.manual_seed(0)
    encoder = sa.Encoder(sa.AE((1, 2, 2), 2, width=8).eval())
    x = np.random.default_rng(0).uniform(-1, 1, (20, 4)).astype(np.float32)
    with pytest.raises(Exception, match="not fitted"): encoder.transform(x)
    z = encoder.fit(x).transform(x)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5)
    close(encoder.transform(x[::-1])[::-1], z)
    close(np.concatenate([encoder.transform(row[None]) for row in x]), z)
    for other in (x.astype(np.float64), np.asfortranarray(x), x.tolist(), torch.tensor(x).reshape(20, 1, 2, 2)):
        close(encoder.fit_transform(other), z)
    np.save(tmp_path / "x.npy", x)
    close(encoder.transform(np.load(tmp_path / "x.npy", mmap_mode="r")), z)
    for other in (clone(encoder).fit(x), pickle.loads(pickle.dumps(encoder))): close(other.transform(x), z)
    assert encoder.get_feature_names_out().tolist() == ["encoder0", "encoder1"] and encoder.n_features_in_ == 4
    with pytest.raises(ValueError, match="features"): encoder.transform(x[:, :3])
