"""The pages, without Quarto: staged as nbdev does, and sent through a strict pandoc.

    python docs/stage.py      stage every page and fail on anything that pandoc or a reader would stumble over

Quarto itself only warns about unknown citations, unresolved references and missing images. This fails.
"""

import base64
import json
import os
import posixpath
import re
import subprocess
import sys
import tempfile
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
FRONT = re.compile(r"\A---\n(.*?)\n---\n+", re.DOTALL)
LABEL = re.compile(r"\{#((?:eq|fig|tbl|sec)-[\w-]+)[ }]")
REFERENCE = re.compile(r"@((?:eq|fig|tbl|sec)-[\w-]+)")
LINK = re.compile(r"(?<!\!)\[[^\]\n]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
PICTURES = {"image/svg+xml": "svg", "image/png": "png"}


def directives(source: str) -> tuple[dict[str, str], str]:
    "The leading `#|` lines of a code cell as a dictionary, and the code below them."
    import yaml

    lines = source.splitlines()
    told = [x[2:].strip() for x in takewhile(lambda x: x.startswith("#|"), lines)]
    found = {x.split()[0]: "" for x in told if ": " not in x}  # nbdev's: hide, exports
    found |= yaml.safe_load("\n".join(x for x in told if ": " in x)) or {}
    return {k: str(v).lower() if isinstance(v, bool) else v for k, v in found.items()}, "\n".join(lines[len(told):])


def text_of(value) -> str: return "".join(value) if isinstance(value, list) else value


def picture_markdown(output: dict, told: dict[str, str], file: Path) -> str:
    "A stored picture as markdown, with its caption, label, description and width; `file` has no suffix yet."
    kind = next(k for k in PICTURES if k in output["data"])
    data, file = text_of(output["data"][kind]), file.with_suffix(f".{PICTURES[kind]}")
    file.write_bytes(data.encode() if kind == "image/svg+xml" else base64.b64decode(data))
    size = output.get("metadata", {}).get(kind, {})
    words = [f"#{told['label']}"] if "label" in told else []
    words += [f'fig-alt="{told["fig-alt"]}"'] if "fig-alt" in told else []
    words += [f"width={size['width']}"] if "width" in size else []
    attributes = f"{{{' '.join(words)}}}" if words else ""
    return f"![{told.get('fig-cap', '')}]({file.parent.name}/{file.name}){attributes}"


def output_markdown(output: dict, told: dict[str, str], file: Path) -> str:
    "One stored output as markdown: pictures are written to `file`, markdown goes through, the rest is verbatim."
    data = output.get("data", {})
    if data.keys() & PICTURES.keys(): return picture_markdown(output, told, file)
    if "text/html" in data: return f"```{{=html}}\n{text_of(data['text/html'])}\n```"
    if "text/markdown" in data: return text_of(data["text/markdown"])
    plain = text_of(data["text/plain"] if "text/plain" in data else output.get("text", ""))
    return f"``` {{.output}}\n{plain.rstrip()}\n```" if plain.strip() else ""


def code_markdown(code: str, told: dict[str, str]) -> str:
    "The source of a cell, folded if it says so."
    if told.get("echo") == "false" or not code.strip(): return ""
    block = f"```python\n{code}\n```"
    if told.get("code-fold") != "true": return block
    return f"<details class=\"source\"><summary>{told.get('code-summary', 'Code')}</summary>\n\n{block}\n\n</details>"


def notebook_markdown(file: Path, figures: Path) -> str:
    "A notebook as one markdown page, as Quarto would show it; its pictures are written to the folder `figures`."
    parts, number = [], 0
    figures.mkdir(parents=True, exist_ok=True)
    for cell in json.loads(file.read_text())["cells"]:
        source = text_of(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source)
            continue
        told, code = directives(source)
        if "hide" in told or told.get("include") == "false": continue
        parts.append(code_markdown(code, told))
        if told.get("output") == "false": continue
        for output in cell["outputs"]:
            name = f"{re.sub(r'^[0-9]+_', '', file.stem)}_{number}"
            parts.append(output_markdown(output, told, figures / name))
            number += 1
    return "\n\n".join(p.strip() for p in parts if p.strip()) + "\n"


def prepared(page: str) -> str:
    "A page for pandoc: equation labels and references become plain text, which pandoc does not know."
    return REFERENCE.sub(r"(\1)", re.sub(r"(\$\$)[ \t]*\{#eq-[\w-]+\}", r"\1", page))


def pandoc(page: str, folder: Path) -> str:
    "Send markdown through pandoc, in `folder`, failing on every warning; returns what it complained of."
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "-f", "markdown", "-t", "html5", "--mathml", "--citeproc"]
    command += ["--lua-filter", str(NBS / "assets" / "spacing.lua"), "--fail-if-warnings"]
    command += ["--bibliography", str(NBS / "references.bib"), "--metadata", "title=page"]
    run = subprocess.run(command, input=prepared(page), cwd=folder, capture_output=True, text=True)
    return run.stderr.strip() if run.returncode else ""


def dead(target: str, name: str, pages: set[str]) -> bool:
    "Whether a link of page `name` leads to a page of the site that is not there."
    path = target.split("#")[0]
    if "://" in target or not path: return False
    there = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
    known = pages | {re.sub(r"(^|/)\d+_", r"\1", re.sub(r"\.(ipynb|md)$", ".html", p)) for p in pages}
    return there not in known


def faults(name: str, page: str, folder: Path, pages: set[str]) -> list[str]:
    "What is wrong with a staged page: pandoc's complaints, dead references, links and images, bare figures."
    prose = FENCED.sub("", page)
    labels, wanted = LABEL.findall(page), set(REFERENCE.findall(prose))
    found = [f"pandoc: {line}" for line in pandoc(page, folder).splitlines()]
    found += [f"label {k} defined twice" for k in {k for k in labels if labels.count(k) > 1}]
    found += [f"reference @{k} has no label" for k in sorted(wanted - set(labels))]
    found += [f"link to {t}, which is not a page" for t in LINK.findall(prose) if dead(t, name, pages)]
    found += [f"image {path} is missing" for _, path in IMAGE.findall(page) if not (folder / path).exists()]
    found += [f"figure {path} has no caption" for caption, path in IMAGE.findall(page) if not caption]
    if "title:" not in (FRONT.match(page) or [""])[0]: found.append("no title")
    return [f"{name}: {f}" for f in found]


def staged() -> Path:
    "The folder in which nbdev has staged all pages."
    sys.path.insert(0, str(ROOT / "docs"))
    os.environ["PYTHONPATH"] = str(ROOT / "docs")  # for nbdev's workers: docs/processors.py
    from nbdev.serve import proc_nbs

    return Path(proc_nbs(force=True, n_workers=2))


def pages(folder: Path) -> dict[str, str]:
    "All staged pages as markdown, by path on the site; the pictures of each are in figures/ beside it in `folder`."
    stage, found = staged(), {}
    for p in sorted(stage.rglob("*.ipynb")):
        name = p.relative_to(stage)
        found[str(name)] = notebook_markdown(p, folder / name.parent / "figures")
    return found | {str(p.relative_to(stage)): p.read_text() for p in sorted(stage.rglob("*.md"))}


def check() -> list[str]:
    "Stage all pages with nbdev, check each, and check that every page arrived."
    with tempfile.TemporaryDirectory() as tmp:
        found = pages(Path(tmp))
        sources = [*NBS.rglob("[!._]*.ipynb"), *NBS.glob("*.md")]
        lost = [f"{p}: did not reach the stage" for p in sources if str(p.relative_to(NBS)) not in found]
        links = set(found) | {f"notebooks/{n}" for n in found if n.endswith(".ipynb")}
        return lost + [f for n, page in found.items() for f in faults(n, page, Path(tmp, n).parent, links)]


if __name__ == "__main__":
    found = check()
    print("\n".join(found) or "all pages are sound")
    sys.exit(bool(found))
