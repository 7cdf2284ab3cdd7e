"""The demo, as a user runs it, only shorter."""

import json
import re
import subprocess
import sys

import pytest

from scoreae.cli import main

COLUMNS = {"MSE point", "MSE sample", "PSNR point (dB)", "probe (%)", "bits/dim", "rate (nats)", "distortion (nats)"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "demo"
    command = [sys.executable, "-m", "scoreae.cli", "demo", "--minutes", "0.1", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done, out


def test_it_prints_the_table_and_the_place(run):
    done, out = run
    assert "| SAMI |" in done.stdout and "| DBAE |" in done.stdout and str(out / "report.html") in done.stdout
    assert "SAMI" in done.stderr and "%" in done.stderr  # a progress bar


def test_metrics(run):
    metrics = json.loads((run[1] / "metrics.json").read_text())
    assert metrics["steps"] >= 1 and metrics["width"] in (16, 24, 32) and set(metrics["seconds_per_step"]) == {"SAMI", "SAMI, told level", "DBAE", "AE"}
    rows = {row["model"]: row for row in metrics["rows"]}
    assert list(rows) == ["SAMI", "SAMI, told level", "DBAE", "AE", "PCA"]
    for row in rows.values(): assert set(row) >= COLUMNS, "every number stands beside the same number for the baselines"
    assert 0.02 < rows["PCA"]["MSE point"][0] < 0.03


def test_report_is_self_contained(run):
    page = (run[1] / "report.html").read_text()
    assert page.startswith("<!doctype html>") and page.count("data:image/png;base64,") == 5
    assert not re.search(r"(src|href)=[\"'](?!data:)", page) and not re.search("https?:|<script|@import|url\\(", page)
    for heading in ("Numbers", "Held-out reconstructions", "Interpolations", "Traversals", "Samples", "Losses"): assert f"<h2>{heading}</h2>" in page


def test_errors_are_one_line(capsys):
    assert main(["demo", "--z-dim", "0"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("scoreae: error: z_dim: expected")
    with pytest.raises(SystemExit): main(["demonstrate"])
    with pytest.raises(ValueError, match="z_dim"): main(["--debug", "demo", "--z-dim", "0"])
