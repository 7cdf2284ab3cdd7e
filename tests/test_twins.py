"""The percent twins are their notebooks', and say the same."""

import sys
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
import twins  # noqa: E402


def test_twins_are_up_to_date():
    assert twins.faults() == [], "run `make export`, or python docs/twins.py"


@pytest.mark.parametrize("name", ["foundations/02_paths", "use/41_training"])
def test_a_twin_has_every_cell(name):
    notebook = jupytext.read(ROOT / "nbs" / f"{name}.ipynb")
    again = jupytext.reads(twins.twin(ROOT / "nbs" / f"{name}.ipynb"), fmt="py:percent")
    cells = lambda nb: [(c.cell_type, c.source.strip()) for c in nb.cells]
    assert cells(again) == cells(notebook)
