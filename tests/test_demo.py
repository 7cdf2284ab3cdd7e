"""The demo, as a user runs it, only shorter."""

import json
import re
import shlex
import subprocess
import sys

import pytest
import torch

from scoreae.commands import command_line
from scoreae.commands.command_line import main

MODELS = ["SAMI", "SAMI, told level", "DBAE", "AE", "PCA"]
COLUMNS = {
    "MSE point", "MSE sample", "PSNR point (dB)", "linear (%)", "k-NN (%)", "MLP (%)", "AUROC", "AP",
    "bits/dim", "rate (nats)", "distortion (nats)",
}  # fmt: skip
HEADINGS = ("Numbers", "Held-out reconstructions", "Interpolations", "Traversals", "Samples", "Losses")


def call(*arguments: str) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, "-m", "scoreae", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "demo"
    return call("demo", "--minutes", "0.05", "--width", "8", "--out", str(out)), out


def metrics(out) -> dict:
    def forbid(text): raise AssertionError(f"{text} is not JSON")

    return json.loads((out / "metrics.json").read_text(), parse_constant=forbid)


def test_it_prints_the_table_and_the_place(run):
    done, out = run
    assert "| SAMI |" in done.stdout and "| DBAE |" in done.stdout and str(out / "report.html") in done.stdout
    assert "SAMI" in done.stderr and "%" in done.stderr  # a progress bar


def test_metrics(run):
    found = metrics(run[1])
    assert found["steps"] >= 1 and found["width"] == 8 and set(found["seconds_per_step"]) == set(MODELS) - {"PCA"}
    rows = {row["model"]: row for row in found["rows"]}
    assert list(rows) == MODELS
    for row in rows.values():
        assert set(row) >= COLUMNS, "every number stands beside the same number for the baselines"
        for name in COLUMNS:
            mean, stderr, low, high = row[name]
            assert stderr >= 0 and low <= mean <= high, name
    assert 0.02 < rows["PCA"]["MSE point"][0] < 0.03


def test_the_recorded_command_repeats_the_run(run, tmp_path):
    first = metrics(run[1])
    call(*shlex.split(first["command"])[1:], "--out", str(tmp_path / "again"))
    second = metrics(tmp_path / "again")
    for found in (first, second):
        for timed in (found, *found["rows"]): del timed["seconds"]
        del found["seconds_per_step"], found["made"]
    assert first == second


def test_report_is_self_contained(run):
    page = (run[1] / "report.html").read_text()
    assert page.startswith("<!doctype html>") and page.count("data:image/png;base64,") == 5
    assert not re.search(r"(src|href)=[\"'](?!data:)", page) and not re.search("https?:|<script|@import|url\\(", page)
    for heading in HEADINGS: assert f"<h2>{heading}</h2>" in page


@pytest.mark.parametrize(("arguments", "begin"), [
    (["demo", "--z-dim", "0"], "z_dim: expected"),
    (["demo", "--minutes", "nan"], "minutes: expected"),
    (["demo", "--steps", "-3"], "steps: expected"),
    (["demo", "--width", "0"], "width: expected"),
    (["demo", "--seed", "-1"], "seed: expected"),
    (["demo", "--out", "/dev/null/x"], "out: expected a folder that can be written"),
    (["demonstrate"], "argument command: invalid choice"),
    (["demo", "--epochs", "3"], "unrecognized arguments: --epochs"),
    ([], "the following arguments are required"),
])  # fmt: skip
def test_errors_are_one_line(arguments, begin, capsys, monkeypatch):
    monkeypatch.setattr(command_line, "fit", lambda *args, **kw: pytest.fail("trained before arguments were checked"))
    try: status = main(arguments)
    except SystemExit as e: status = e.code
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1 and error.startswith(f"scoreae: error: {begin}")


@pytest.mark.parametrize("arguments", [["--debug", "demo"], ["demo", "--debug"]])
def test_debug_shows_the_traceback(arguments):
    with pytest.raises(ValueError, match="z_dim"): main([*arguments, "--z-dim", "0"])


def test_interrupt_and_version(capsys, monkeypatch, tmp_path):
    def interrupted(*args, **kw): raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "fit", interrupted)
    state = torch.get_rng_state()
    assert main(["demo", "--steps", "1", "--width", "8", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "scoreae: interrupted\n" and torch.equal(state, torch.get_rng_state())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SystemExit, match="0"): main(["--version"])
    assert re.fullmatch(r"scoreae \d+\.\d+\.\d+\n", capsys.readouterr().out)
