"""The pages, without Quarto: stage them as nbdev does, send them through a strict pandoc, write the README.

    python docs/stage.py check      stage every page and fail on anything that pandoc or a reader would stumble over
    python docs/stage.py readme     write README.md (and its picture) from nbs/index.ipynb
    python docs/stage.py results    write docs/results.md from docs/results/*.json

Quarto itself only warns about unknown citations, unresolved references and missing images. This fails.
"""

import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, SITE = ROOT / "nbs", "https://scoreae.github.io/scoreae/"
FRONT = re.compile(r"\A---\n(.*?)\n---\n+", re.DOTALL)
LABEL = re.compile(r"\{#((?:eq|fig|tbl|sec)-[\w-]+)\}")
REFERENCE = re.compile(r"@((?:eq|fig|tbl|sec)-[\w-]+)")
LINK = re.compile(r"(?<!\!)\[[^\]\n]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def directives(source: str) -> tuple[dict[str, str], str]:
    "The leading `#|` lines of a code cell as a dictionary, and the code below them."
    lines, found = source.splitlines(), {}
    while lines and lines[0].startswith("#|"):
        key, _, value = lines.pop(0)[2:].strip().partition(":")
        found[key.strip()] = value.strip()
    return found, "\n".join(lines)


def text_of(value) -> str: return "".join(value) if isinstance(value, list) else value


def output_markdown(output: dict, images: Path, name: str) -> str:
    "One stored output as markdown: pictures are written to `images`, markdown goes through, the rest is verbatim."
    data = output.get("data", {})
    if "image/png" in data:
        (images / f"{name}.png").write_bytes(base64.b64decode(text_of(data["image/png"])))
        return f"![]({images.name}/{name}.png)"
    if "text/markdown" in data: return text_of(data["text/markdown"])
    plain = text_of(data["text/plain"] if "text/plain" in data else output.get("text", ""))
    return f"```\n{plain.rstrip()}\n```" if plain.strip() else ""


def notebook_markdown(file: Path, images: Path) -> str:
    "A notebook as one markdown page, as Quarto would show it."
    parts, number = [], 0
    images.mkdir(parents=True, exist_ok=True)
    for cell in json.loads(file.read_text())["cells"]:
        source = text_of(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source)
            continue
        told, code = directives(source)
        if "hide" in told or told.get("include") == "false": continue
        if told.get("echo") != "false" and code.strip(): parts.append(f"```python\n{code}\n```")
        if told.get("output") == "false": continue
        for output in cell["outputs"]:
            parts.append(output_markdown(output, images, f"{re.sub(r'^[0-9]+_', '', file.stem)}_{number}"))
            number += 1
    return "\n\n".join(p.strip() for p in parts if p.strip()) + "\n"


def prepared(page: str) -> str:
    "A page for pandoc: equation labels and references become plain text, which pandoc does not know."
    return REFERENCE.sub(r"(\1)", re.sub(r"(\$\$)[ \t]*" + LABEL.pattern, r"\1", page))


def pandoc(page: str, folder: Path) -> str:
    "Send markdown through pandoc, in `folder`, failing on every warning; returns what it complained of."
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "-f", "markdown", "-t", "html5", "--mathml", "--citeproc"]
    command += ["--fail-if-warnings", "--bibliography", str(NBS / "references.bib"), "--metadata", "title=page"]
    run = subprocess.run(command, input=prepared(page), cwd=folder, capture_output=True, text=True)
    return run.stderr.strip() if run.returncode else ""


def faults(name: str, page: str, folder: Path, pages: set[str]) -> list[str]:
    "What is wrong with a staged page: pandoc's complaints, dead references, links and images."
    prose = FENCED.sub("", page)
    labels, wanted = LABEL.findall(page), set(REFERENCE.findall(prose))
    found = [f"pandoc: {line}" for line in pandoc(page, folder).splitlines()]
    found += [f"label {k} defined twice" for k in {k for k in labels if labels.count(k) > 1}]
    found += [f"reference @{k} has no label" for k in sorted(wanted - set(labels))]
    for target in LINK.findall(prose):
        path = target.split("#")[0]
        if "://" not in target and path and path not in pages: found.append(f"link to {target}, which is not a page")
    images = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page)
    found += [f"image {p} is missing" for p in images if not (folder / p).exists()]
    if "title:" not in (FRONT.match(page) or [""])[0]: found.append("no title")
    return [f"{name}: {f}" for f in found]


def check() -> list[str]:
    "Stage all pages with nbdev, check each, and check that every page arrived."
    from nbdev.serve import proc_nbs

    staged = Path(proc_nbs(force=True, n_workers=2))
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        found = {p.name: notebook_markdown(p, folder / "images") for p in sorted(staged.glob("*.ipynb"))}
        found |= {p.name: p.read_text() for p in sorted(staged.glob("*.md"))}
        missing = {p.name for p in [*NBS.glob("*.ipynb"), *NBS.glob("*.md")]} - set(found)
        lost = [f"{m}: did not reach the stage" for m in sorted(missing)]
        return lost + [f for n, page in found.items() for f in faults(n, page, folder, set(found))]


def site_link(match: re.Match) -> str:
    "A link between pages, as a link to the site."
    whole, target = match[0], match[1]
    if "://" in target or target.startswith("#"): return whole
    page = re.sub(r"\.(ipynb|md)", ".html", re.sub(r"^[0-9]+_", "", target))
    return whole.replace(f"({target})", f"({SITE}{page})")


def readme() -> tuple[str, dict[str, bytes]]:
    "README.md as it should be, and its pictures by name."
    with tempfile.TemporaryDirectory() as tmp:
        page = notebook_markdown(NBS / "index.ipynb", Path(tmp, "images"))
        pictures = {p.name: p.read_bytes() for p in Path(tmp, "images").iterdir()}
    page = re.sub(r"^(# .*\n)\n> (.*)\n", r"\1\n\2\n", page)
    page = re.sub(r" \[@[^\]]*\]", "", page).replace("](images/", "](docs/images/")
    note = "<!-- Written by docs/stage.py from nbs/index.ipynb: edit the notebook. -->\n\n"
    return note + LINK.sub(site_link, page), pictures


DEMO = """
## The demo: 8×8 digits

`{command}`: {steps} steps of {batch_size} images for each trained model, width {width}, on {device} with {threads}
threads (torch {torch}); {seconds:.0f} s in all. One seed; uncertainties are over the 397
held-out images, and of FD-clf over random halves of them.

{table}

MSE is on the [0, 1] scale. Point and sample answer different questions and are not compared with each other. Bits per
dimension bound $\\log p(x)$ for every model; deterministic codes (AE, PCA) are noised as is best for the validation
images, and their decoders bounded as exact Gaussian decoders. One seed of each model says nothing about the spread over
trainings: differences between rows of the size of their uncertainties are not findings.
"""


CONTEST = """
The rules and the reasons for them are on [33_head_to_head](33_head_to_head.ipynb). Made by

```
{command}
```

that is, {data} at {size}×{size} pixels ({train} images to train on, {val} to choose on, {test} to report on), {steps}
steps of {batch_size} images, networks of width {width}, on {device} ({machine}, threads: {threads}, torch {torch}).
Numbers are means over {seeds} seeds, which include first weights, batches and noise; ± is the standard deviation over
seeds. MSE is on the [0, 1] scale; point and sample, with 25 evaluations each, answer different questions and are not
compared with each other. Bits per dimension bound $\\log p(x)$ for every model, deterministic codes with the noise that
is best for the validation images; rate and distortion are its two parts. FD-clf is the Fréchet distance of samples to
test images in the features of a small classifier trained on the training images (it is not FID), at {test} / 2 of each;
its floor is the same distance between two halves of the test images. SW is the sliced Wasserstein distance of pixels,
with its own floor. `ms/step` is the time of a training
step, the least of three interleaved rounds of eight.

What it is not: these networks are small, and their training is short. The table says what each model does with this
budget, not what it can do.
"""


PRIOR = """
## With a diffusion of codes as prior

```
{command}
```

The same rules, but the prior that samples and bounds use is a diffusion, fitted to the training codes in {prior_steps}
steps after the training ([12_priors](12_priors.ipynb)). Codes of {z_dims[0]} numbers, {seeds} seeds; beside the rate
and the distances of samples those with the Gaussian prior, from the rows above. The trainings are the same, seed by
seed.

"""


def head(title: str, description: str) -> str: return f"---\ntitle: {title}\ndescription: {description}\n---\n"


def contest(file: Path) -> str:
    "The page of a head-to-head, from its stored rows."
    from scoreae.evaluation import markdown_table
    from scoreae.head_to_head import summary

    run = json.loads(file.read_text())
    page = head("Head to head", "All models of the zoo, trained alike.") + CONTEST.format(**run, **run["contest"])
    tables = ((k, markdown_table(summary(run["rows"], k))) for k in run["contest"]["z_dims"])
    page += "".join(f"\n## Codes of {k} numbers\n\n{table}\n" for k, table in tables)
    return page + with_prior(run, json.loads(file.with_stem(f"{file.stem}-prior").read_text()))


def with_prior(plain: dict, run: dict) -> str:
    "What a diffusion of codes changes, beside the same rows with a Gaussian prior."
    from scoreae.evaluation import markdown_table
    from scoreae.head_to_head import summary

    k, lines = run["contest"]["z_dims"][0], []
    before = {line["model"]: line for line in summary(plain["rows"], k)}
    for line in summary(run["rows"], k):
        row = {"model": line["model"]}
        for c in ("rate (nats)", "bits/dim", "FD-clf", "SW"):
            row |= {f"{c}, Gaussian": before[line["model"]][c], f"{c}, diffusion": line[c]}
        lines.append(row)
    return PRIOR.format(**run, **run["contest"]) + markdown_table(lines) + "\n"


def results() -> dict[str, str]:
    "The pages of results as they should be, from the stored results: path in docs/ and text."
    from scoreae.cli import shown
    from scoreae.evaluation import from_json, markdown_table

    stored = ROOT / "docs" / "results"
    run = json.loads((stored / "demo.json").read_text())
    demo = DEMO.format(table=markdown_table(shown(from_json(run["rows"]))), **run)
    pages = {"results.md": head("Results", "Numbers, each with the command that made it.") + demo}
    return pages | {f"results/{f.stem}.md": contest(f) for f in stored.glob("fashion-mnist.json")}


def main(command: str) -> int:
    if command == "check":
        found = check()
        print("\n".join(found) or "all pages are sound")
        return bool(found)
    if command == "readme":
        page, pictures = readme()
        (ROOT / "README.md").write_text(page)
        shutil.rmtree(ROOT / "docs" / "images", ignore_errors=True)
        (ROOT / "docs" / "images").mkdir()
        for name, data in pictures.items(): (ROOT / "docs" / "images" / name).write_bytes(data)
        return 0
    if command == "results":
        for name, text in results().items(): (ROOT / "docs" / name).write_text(text)
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__": sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
