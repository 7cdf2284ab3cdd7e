"""Every experiment: what it asks, the command that made its stored numbers, and the page that reads them.

    python -m bench
"""

import ast
import functools
import json
import re
from pathlib import Path

from scoreae.core.pages import markdown_table

ROOT = Path(__file__).resolve().parent.parent
STORED = ("docs/results/*.json", "bench/*/*.json", "weights/*/metrics.json")


def files() -> list[Path]:
    "The files of stored numbers; data that no command of ours made is left out."
    found = [f for pattern in STORED for f in sorted(ROOT.glob(pattern))]
    return [f for f in found if '"command": ' in f.read_text()]


def key(file: Path) -> str:
    "What pages call a file: its name, or for weights that of their folder."
    return file.parent.name if file.name == "metrics.json" else file.name


def script(command: str) -> str:
    "The module that a command runs, or `scoreae` and the name of its command."
    words = command.split()
    return words[2] if words[:2] == ["python", "-m"] else " ".join(words[:2])


def asks(name: str) -> str:
    "The first line of a script's docstring, without what it writes; of a command of `scoreae`, that of its function."
    tool, _, function = name.partition(" ")
    file = ROOT / ("scoreae/commands/command_line.py" if function else f"{tool.replace('.', '/')}.py")
    tree = ast.parse(file.read_text())
    if function: tree = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function)
    return re.sub(r"; writes? .*$", ".", ast.get_docstring(tree).split("\n")[0])


@functools.cache
def sources() -> dict[str, str]:
    "What is written on the notebooks, in the order of reading, and on the pages of results: by place in nbs/."
    notebooks = sorted((ROOT / "nbs").glob("*/[!._]*.ipynb"), key=lambda p: p.name)
    text = lambda p: "\n".join("".join(c["source"]) for c in json.loads(p.read_text())["cells"])
    found = {str(p.relative_to(ROOT / "nbs")): text(p) for p in notebooks}
    return found | {p.name: p.read_text() for p in sorted((ROOT / "nbs").glob("results*.md"))}


def page(file: Path, command: str) -> str:
    "The first page that names the file; else that of results with this command; else that which names its script."
    name = script(command)
    named = re.escape(name).replace(r"\.", "[./]") if "." in name else f"`{re.escape(name)}"
    for pattern in (rf"(?<![\w.-]){re.escape(key(file))}(?![\w-])", re.escape(command), rf"{named}\b"):
        found = [p for p, text in sources().items() if re.search(pattern, text)]
        if found: return found[0]
    return ""


def made(found: dict) -> dict[str, str]:
    "The last date and all commits of stored numbers: as their rows say, and the file for rows that do not."
    rows = found.get("rows", [])
    rows = list(rows.values()) if isinstance(rows, dict) else rows
    told = [r["made"] for r in rows if "made" in r]
    if not told or len(told) < len(rows): told += [found[k] for k in ("made", "stored") if k in found]
    told.sort(key=lambda m: m["date"])
    commits = dict.fromkeys(m["commit"] for m in told if "commit" in m)
    return {"date": told[-1]["date"] if told else "", "commit": ", ".join(commits)}


def experiments() -> list[dict[str, str]]:
    "Each stored set of numbers: its name, what it asks, command, page (its place in nbs/), file, date and commit."
    rows = []
    for file in files():
        whole = json.loads(file.read_text())
        for part, one in whole.get("sets", {"": whole}).items():
            name, command = key(file).removesuffix(".json"), one["command"]
            row = {"experiment": f"{name}: {part}" if part else name, "asks": asks(script(command)), "command": command}
            row |= {"page": page(file, command), "file": str(file.relative_to(ROOT))}
            rows.append(row | made({k: whole[k] for k in ("made", "stored") if k in whole} | one))
    return rows


if __name__ == "__main__": print(markdown_table(experiments()))
