"""The notebooks' percent twins, for review.

    python docs/twins.py           write docs/twins/**/*.py from nbs/**/*.ipynb
    python docs/twins.py check     fail if a twin is missing, left over, or not its notebook's
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TWINS = ROOT / "docs" / "twins"


def twin(notebook: Path) -> str:
    "A notebook as a script in the percent format, without outputs and versions."
    import jupytext

    nb = jupytext.read(notebook)
    nb.metadata = {"jupytext": {"notebook_metadata_filter": "-all", "cell_metadata_filter": "-all"}}
    return jupytext.writes(nb, fmt="py:percent")


def twins() -> dict[str, str]:
    "All twins as they should be, by path in docs/twins."
    notebooks = sorted(p.relative_to(ROOT / "nbs") for p in (ROOT / "nbs").rglob("[!._]*.ipynb"))
    return {str(p.with_suffix(".py")): twin(ROOT / "nbs" / p) for p in notebooks}


def faults() -> list[str]:
    "Twins that are missing, left over or stale."
    want, found = twins(), {str(p.relative_to(TWINS)): p.read_text() for p in TWINS.rglob("*.py")}
    return sorted(name for name in want.keys() | found.keys() if want.get(name) != found.get(name))


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        stale = faults()
        sys.exit(f"not their notebooks' twins: {', '.join(stale)}; run python docs/twins.py" if stale else 0)
    for old in TWINS.rglob("*.py"): old.unlink()
    for name, text in twins().items():
        (TWINS / name).parent.mkdir(parents=True, exist_ok=True)
        (TWINS / name).write_text(text)
