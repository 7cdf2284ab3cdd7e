"""Pages that are written from others: README, sidebar, tutorial, API index, results, experiments.

    python docs/written.py      write them all
"""

import ast
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import stage
import yaml
from stage import NBS, ROOT

sys.path.append(str(ROOT))  # bench is beside the package, not in it
SITE = "https://scoreae.github.io/scoreae/"
PARTS = {
    "foundations": ("Foundations", "Paths, scores, bridges, the bound, the sampler: each equation checked in a cell."),
    "models": ("Models", "Networks, the contract of every model, SAMI, DBAE, and what they are compared with."),
    "images": ("Images", "Files of your own, images drawn from known factors, public sets, and batches of them."),
    "measures": ("Measures", "Errors, distances of distributions, axes, straightness, and one row a model."),
    "use": ("Use", "Training that resumes bit for bit, edits, axes, pictures, sliders, other libraries."),
    "commands": ("Commands", "The same without Python: from a folder of images to codes, pictures and a report."),
    "sami_claims": ("SAMI's claims", "What the paper claims, derived where it can be, and tested."),
    "dbae_claims": ("DBAE's claims", "Its theorems, and where the image is: in the code, the noise or the loss."),
    "together": ("Together", "All models, trained alike and asked the same questions."),
    "core": ("Appendix", "What every page uses and nobody reads first."),
}  # fmt: skip
NOTE = "<!-- Written by docs/written.py: edit what it is written from. -->\n"


def head(title: str, description: str) -> str: return f"---\ntitle: {title}\ndescription: {description}\n---\n"


def title(page: Path) -> tuple[str, str]:
    "Title and subtitle of a notebook."
    first = stage.text_of(json.loads(page.read_text())["cells"][0]["source"])
    return re.match(r"# (.*)\n\n> (.*)", first).groups()


def pages_of(part: str) -> list[Path]: return sorted((NBS / part).glob("[!._]*.ipynb"))


HOW_TO = ["own-images.md", "scikit-learn.md", "hub.md", "export.md", "diffusers.md", "twins.md"]
REFERENCE = ["api.md", "notation.md", "conventions.md", "decisions.md"]
RESULTS = ["results.md", "results-fashion-mnist.md", "results-sami.md", "results-dbae.md", "log.md", "experiments.md"]


def sidebar() -> dict[str, str]:
    "nbs/sidebar.yml: the pages with their numbers, folded to the current part; how-to, reference and results apart."
    entry = lambda p: {"text": f"{p.stem[:2]} {title(p)[0]}", "href": str(p.relative_to(NBS))}
    parts = [{"section": PARTS[k][0], "contents": [entry(p) for p in pages_of(k)]} for k in PARTS]
    bar = lambda key, name, contents: {"id": key, "title": name, "style": "floating", "collapse-level": 1,
                                       "contents": contents}  # fmt: skip
    found = [bar("tutorial", "Tutorial", ["tutorial.md", *parts]), bar("howto", "How to", HOW_TO),
             bar("reference", "API", REFERENCE), bar("results", "Results", RESULTS)]  # fmt: skip
    text = yaml.safe_dump({"website": {"sidebar": found}}, sort_keys=False, allow_unicode=True, width=120)
    return {"nbs/sidebar.yml": "# Written by docs/written.py from the notebooks.\n" + text}


def tutorial() -> dict[str, str]:
    "docs/tutorial.md: every page with what it shows, part by part."
    text = head("Tutorial", "All pages in the order of reading.") + NOTE
    text += "\nThe numbers are the order of reading. A page stands on earlier ones, or says what it borrows.\n"
    for number, (part, (name, what)) in enumerate(PARTS.items(), 1):
        text += f"\n## {number if part != 'core' else 'A'}. {name}\n\n{what}\n\n| | page | |\n|---|---|------|\n"
        for p in pages_of(part):
            a, b = title(p)
            text += f"| {p.stem[:2]} | [{a}]({p.relative_to(NBS)}) | {b} |\n"
    return {"docs/tutorial.md": text}


def public(module: Path) -> list[tuple[str, str]]:
    "The public functions and classes of a module, each with the first line of its docstring."
    tree = ast.parse(module.read_text())
    assigned = [n for n in tree.body if isinstance(n, ast.Assign)]
    names = next(ast.literal_eval(n.value) for n in assigned if n.targets[0].id == "__all__")
    nodes = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return [(k, (ast.get_docstring(nodes[k]) or "").split("\n")[0]) for k in names if k in nodes]


def face() -> dict[str, tuple[str, str]]:
    "The names of the public face, each with the part and the name of its module."
    tree = ast.parse((ROOT / "scoreae" / "__init__.py").read_text())
    found = [(n.module.split(".")[1:], a) for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names]
    return {a.name: tuple(path) for path, a in found if len(path) == 2}


def line(name: str, what: str, page: Path) -> str:
    "One row of the index: a symbol, linked to its place on its page."
    what = re.sub(r",? ?\(?@eq-[\w-]+\)?", "", what).replace("|", "\\|")  # equations have numbers on their own page
    return f"| [`{name}`]({page.relative_to(NBS)}#{name.lower()}) | {what} |\n"


def api() -> dict[str, str]:
    "docs/api.md: every public name, with its first line and a link to its page."
    modules = {(part, p.stem[3:]): p for part in PARTS for p in pages_of(part)}
    known = {k: dict(public(ROOT / "scoreae" / k[0] / f"{k[1]}.py")) for k in modules
             if (ROOT / "scoreae" / k[0] / f"{k[1]}.py").exists()}  # fmt: skip
    text = head("API", "Every public name, and where it is explained.") + NOTE
    text += "\n## The face\n\n`import scoreae as sa` is enough for most uses: `sa.SAMI`, `sa.fit`, and `sa.data` for "
    text += "images ([Sets of images](images/22_sets.ipynb)).\n\n| name | |\n|---|------|\n"
    for name, where in sorted(face().items(), key=lambda x: x[0].lower()):
        if name in known[where]: text += line(name, known[where][name], modules[where])
    for part, name in known:
        text += f"\n## `scoreae.{part}.{name}`\n\n| name | |\n|---|------|\n"
        text += "".join(line(k, what, modules[part, name]) for k, what in known[part, name].items())
    return {"docs/api.md": text}


def site_link(match: re.Match) -> str:
    "A link between pages, as a link to the site."
    whole, target = match[0], match[1]
    if "://" in target or target.startswith("#"): return whole
    page = re.sub(r"(^|/)\d+_", r"\1", re.sub(r"\.(ipynb|md)", ".html", target))
    return whole.replace(f"({target})", f"({SITE}{page})")


def plain_image(match: re.Match) -> str:
    "A figure as HTML, at its size on the page: GitHub knows no attributes."
    caption, path, words = match[1], match[2], match[3] or ""
    alt = re.search(r'fig-alt="([^"]*)"', words)
    width = re.search(r"width=(\d+)", words)
    size = f' width="{width[1]}"' if width else ""
    below = f"\n\n*{caption}*" if caption else ""
    return f'<img src="{path.replace("figures/", "docs/images/")}" alt="{alt[1] if alt else caption}"{size}>{below}'


def readme() -> tuple[str, dict[str, bytes]]:
    "README.md as it should be, and its pictures by name."
    with tempfile.TemporaryDirectory() as tmp:
        page = stage.notebook_markdown(NBS / "index.ipynb", Path(tmp, "figures"))
        pictures = {p.name: p.read_bytes() for p in Path(tmp, "figures").iterdir()}
    page = re.sub(r"^(# .*\n)\n> (.*)\n", r"\1\n\2\n", page)
    page = re.sub(r" \[@[^\]]*\]", "", page)
    page = re.sub(stage.IMAGE.pattern + r"(\{[^}]*\})?", plain_image, page).replace("``` {.output}", "```")
    note = "<!-- Written by docs/written.py from nbs/index.ipynb: edit the notebook. -->\n\n"
    return note + stage.LINK.sub(site_link, page), pictures


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
The rules are on [The contest](commands/51_contest.ipynb), what the numbers say on
[Head to head](together/80_head_to_head.ipynb). Made by

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

These trainings are from before models began as Gaussians ([Gaussian images](foundations/09_gaussians.ipynb)).

What it is not: these networks are small, and their training is short. The table says what each model does with this
budget, not what it can do.
"""


PRIOR = """
## With a diffusion of codes as prior

```
{command}
```

The same rules, but the prior that samples and bounds use is a diffusion, fitted to the training codes in {prior_steps}
steps after the training ([Priors](models/12_priors.ipynb)). Codes of {z_dims[0]} numbers, {seeds} seeds; beside the
rate and the distances of samples those with the Gaussian prior, from the rows above. The trainings are the same,
seed by seed.

"""


def contest(file: Path) -> str:
    "The page of a head-to-head, from its stored rows."
    from scoreae.commands.contest import summary
    from scoreae.core.pages import markdown_table

    run = json.loads(file.read_text())
    page = head("Head to head", "All models of the zoo, trained alike.") + CONTEST.format(**run, **run["contest"])
    tables = ((k, markdown_table(summary(run["rows"], k))) for k in run["contest"]["z_dims"])
    page += "".join(f"\n## Codes of {k} numbers\n\n{table}\n" for k, table in tables)
    return page + with_prior(run, json.loads(file.with_stem(f"{file.stem}-prior").read_text()))


def with_prior(plain: dict, run: dict) -> str:
    "What a diffusion of codes changes, beside the same rows with a Gaussian prior."
    from scoreae.commands.contest import summary
    from scoreae.core.pages import markdown_table

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
    from scoreae.commands.command_line import shown
    from scoreae.core.pages import markdown_table
    from scoreae.measures.evaluation import from_json

    stored = ROOT / "docs" / "results"
    run = json.loads((stored / "demo.json").read_text())
    demo = DEMO.format(table=markdown_table(shown(from_json(run["rows"]))), **run)
    pages = {"docs/results.md": head("Results", "Numbers, each with the command that made it.") + demo}
    return pages | {f"docs/results/{f.stem}.md": contest(f) for f in stored.glob("fashion-mnist.json")}


EXPERIMENTS = """
Every set of stored numbers, what was asked, and the page that shows the answer (of several, the first). Date and commit
are those of the last change of the numbers; what is computed from now on has its own in each row. `python -m bench`
prints the same.

{asked}

## Commands and files

Each command is run from the root of a checkout. Those of `bench` write the file beside them; what `scoreae` wrote was
copied there.

{commands}
"""


def experiments() -> dict[str, str]:
    "docs/experiments.md: every set of stored numbers with its question, page and command."
    from bench.__main__ import experiments as stored
    from scoreae.core.pages import markdown_table

    def named(page: str) -> str:
        if not page: return ""
        file = NBS / page
        name = title(file)[0] if file.suffix == ".ipynb" else re.search("^title: (.*)$", file.read_text(), re.M)[1]
        return f"[{name}]({page})"

    def table(rows: list[dict], *dashes: int) -> str:
        top, _, *lines = markdown_table(rows).split("\n")
        return "\n".join([top, "|".join(["", *("-" * n for n in dashes), ""]), *lines])  # relative widths

    rows = stored()
    whole = lambda date: date.replace("-", "\N{NON-BREAKING HYPHEN}")
    asked = [{"experiment": r["experiment"], "what it asks": r["asks"], "page": named(r["page"]),
              "date": whole(r["date"]), "commit": r["commit"]} for r in rows]  # fmt: skip
    commands = [{"experiment": r["experiment"], "command": f"`{r['command']}`", "file": f"`{r['file']}`"} for r in rows]
    text = head("Experiments", "Every stored number, with its question, page, command and commit.") + NOTE
    return {"docs/experiments.md": text + EXPERIMENTS.format(asked=table(asked, 16, 33, 17, 17, 10),
                                                             commands=table(commands, 17, 45, 28))}  # fmt: skip


def written() -> dict[str, str]:
    "All pages as they should be, README aside: path and text."
    return sidebar() | tutorial() | api() | results() | experiments()


def main() -> None:
    page, pictures = readme()
    (ROOT / "README.md").write_text(page)
    shutil.rmtree(ROOT / "docs" / "images", ignore_errors=True)
    (ROOT / "docs" / "images").mkdir()
    for name, data in pictures.items(): (ROOT / "docs" / "images" / name).write_bytes(data)
    for name, text in written().items(): (ROOT / name).write_text(text)


if __name__ == "__main__": main()
