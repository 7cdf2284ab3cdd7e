"""The notebooks run: all of them as nbdev does, and two in a real Jupyter kernel."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def test_all_notebooks():
    "Every cell of every notebook that is not flagged slow, with its assertions, on two processes."
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    run = subprocess.run([BIN / "nbdev-test", "--n-workers", "2"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert run.returncode == 0, (run.stdout + run.stderr)[-6000:]


@pytest.mark.parametrize("name", ["index", "foundations/02_paths"])
@pytest.mark.filterwarnings("ignore")  # of the kernel machinery
def test_in_a_jupyter_kernel(name, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = ROOT / "nbs" / f"{name}.ipynb"
    nb = nbformat.read(file, as_version=4)
    where = {"metadata": {"path": str(file.parent)}}
    NotebookClient(nb, timeout=300, kernel_name="python3", resources=where).execute()
    kinds = {"image/png", "image/svg+xml"}
    pictures = [o for c in nb.cells for o in c.get("outputs", []) if kinds & o.get("data", {}).keys()]
    assert pictures
