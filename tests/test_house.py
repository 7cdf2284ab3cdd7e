"""The house keeps its order: notebooks clean and exported, floors, budgets, one version, mirrored settings."""

import ast
import configparser
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted((ROOT / "nbs").rglob("[!._]*.ipynb"))
MODULES = sorted((ROOT / "scoreae").rglob("[!_]*.py"))
PAGES = [n for n in NOTEBOOKS if n.stem != "index"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# The parts in the order of reading. The digit is the first of its pages' numbers; a subpackage has its part's name.
# What is in core, the appendix, may be imported by all.
PARTS = {"core": 9, "foundations": 0, "models": 1, "images": 2, "measures": 3, "use": 4, "commands": 5,
         "sami_claims": 6, "dbae_claims": 7, "together": 8}  # fmt: skip
LAZY = ("torchvision", "sklearn", "scipy", "PIL", "diffusers", "accelerate", "torchmetrics", "huggingface_hub", "av")
HEAVY = {"matplotlib": {"pictures"}, "ipywidgets": {"pictures"}} | {name: set() for name in LAZY}


DEFINITION = ast.FunctionDef | ast.ClassDef
MANY = {"32_disentanglement": 30, "22_sets": 25, "31_distributions": 16, "30_reconstruction": 16}  # small functions


def cells(notebook: Path, kind: str | None = None) -> list[dict]:
    return [c for c in json.loads(notebook.read_text())["cells"] if kind in (None, c["cell_type"])]


def source(cell: dict) -> str: return "".join(cell["source"])


def exported(notebook: Path) -> list[ast.Module]:
    "Parsed cells of a notebook that are exported."
    return [ast.parse(source(c)) for c in cells(notebook, "code") if re.match(r"#\| exports?\b", source(c))]


def functions(tree: ast.Module):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    "A copy of the repository in which nbdev has exported and cleaned once more."
    there = tmp_path_factory.mktemp("house") / "repo"
    left = (".venv", ".git", "_proc", "_docs", "runs", "__pycache__", ".ruff_cache", ".hypothesis")
    shutil.copytree(ROOT, there, symlinks=True, ignore=shutil.ignore_patterns(*left))
    for command in ("nbdev-export", "nbdev-clean"):
        subprocess.run([BIN / command], cwd=there, check=True, capture_output=True)
    return there


def sources(root: Path) -> set[Path]:
    "All files of notebooks and modules, relative to `root`."
    files = (p for folder in ("nbs", "scoreae") for p in (root / folder).rglob("*") if p.is_file())
    return {p.relative_to(root) for p in files if p.suffix != ".pyc" and ".ipynb_checkpoints" not in p.parts}


def test_export_and_clean_change_nothing(copy):
    files, here, generated = sources(copy), sources(ROOT), {Path("nbs/llms.txt")}
    assert files - here - generated == set(), "nbdev-export makes files that are not here: export and commit them"
    changed = [str(p) for p in sorted(here) if p in files and (copy / p).read_bytes() != (ROOT / p).read_bytes()]
    assert changed == [], "run `make export`: a notebook is not clean, or a module is not its notebook's"


def number(page: Path) -> int: return int(page.stem[:2])


def place(page: Path) -> str:
    "Where the module of a page is, or would be: part and name."
    return f"{page.parent.name}.{page.stem[3:]}"


NUMBERS = {place(p): number(p) for p in PAGES}


def order(module: str) -> tuple[int, int]:
    "The place of a module, part.name, in the order of the parts."
    return list(PARTS).index(module.split(".")[0]), NUMBERS[module]


def imported(tree: ast.Module) -> set[str]:
    "The modules of the package, part.name, that code imports, the public face aside."
    found = set()
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("scoreae."):
            path = n.module.split(".")[1:]
            found |= {".".join(path)} if len(path) == 2 else {f"{path[0]}.{a.name}" for a in n.names}
    return found


def absolute(module: Path) -> ast.Module:
    "A module of the package, parsed, with nbdev's relative imports made absolute."
    tree, here = ast.parse(module.read_text()), ["scoreae", module.parent.name]
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom) and n.level:
            n.module = ".".join([*here[: 3 - n.level], *filter(None, [n.module])])
    return tree


def face() -> dict[str, str]:
    "The public names, each with its module."
    tree = ast.parse((ROOT / "scoreae" / "__init__.py").read_text())
    names = [(n, a) for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names]
    known = {a.asname or a.name: ".".join(n.module.split(".")[1:]) for n, a in names}
    return known | {"data": "images.sets"}


def test_numbers_are_the_reading_order():
    for page in PAGES:
        assert page.stem[0] == str(PARTS[page.parent.name]), f"{page.stem} is not in the band of {page.parent.name}"
    assert len(set(NUMBERS.values())) == len(PAGES), "two pages share a number"


def test_every_module_has_its_notebook():
    for module in MODULES:
        found = re.search(r"AUTOGENERATED! DO NOT EDIT! File to edit: (\S+\.ipynb)", module.read_text())
        assert found, f"{module.name} was not exported from a notebook"
        page = (module.parent / found[1]).resolve()
        assert page.exists(), f"{module.name} comes from {found[1]}, which is gone"
        assert place(page) == f"{module.parent.name}.{module.stem}"


def test_names_are_told_apart():
    "No two pages or modules whose names differ by a suffix or a plural."
    root = lambda name: re.sub(r"(ers|er|ings|ing|ions|ion|s)$", "", name)
    names = [p.stem[3:] for p in PAGES] + list(PARTS)
    roots = [root(n) for n in names]
    assert {r for r in roots if roots.count(r) > 1} == set()


def test_parts():
    "A part imports from itself, by number, and from earlier parts only."
    for module in MODULES:
        own = f"{module.parent.name}.{module.stem}"
        late = {m for m in imported(absolute(module)) if order(m) >= order(own)}
        assert not late, f"{own} imports {late}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent.name != "core"], ids=lambda p: p.stem)
def test_a_page_stands_on_earlier_pages(page):
    "What a page uses of later ones is said in a line that begins with *Borrowed* and links to them."
    code = "\n".join("\n".join(x for x in source(c).splitlines() if x[:1] != "%") for c in cells(page, "code"))
    tree, known = ast.parse(code), face()
    named = {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "scoreae" for a in n.names}
    used = imported(tree) | {known[n] for n in {*re.findall(r"\bsa\.(\w+)", code), *named} if n in known}
    late = {m for m in used if NUMBERS[m] > number(page) and m.split(".")[0] != "core"}
    lines = [x for c in cells(page, "markdown") for x in source(c).splitlines() if x.startswith("*Borrowed")]
    links = [m for x in lines for m in re.findall(r"\((?:\.\./(\w+)/)?\d\d_(\w+)\.ipynb", x)]
    told = {f"{part or page.parent.name}.{name}" for part, name in links}
    assert late == told, f"{page.stem} borrows {sorted(late)}, and says {sorted(told)}"


def test_heavy_libraries_are_imported_lazily():
    for module in MODULES:
        tree = ast.parse(module.read_text())
        top = {(n.module or "").split(".")[0] for n in tree.body if isinstance(n, ast.ImportFrom)}
        top |= {a.name.split(".")[0] for n in tree.body if isinstance(n, ast.Import) for a in n.names}
        wrong = {name for name, allowed in HEAVY.items() if name in top and module.stem not in allowed}
        assert not wrong, f"{module.stem} imports {wrong} when it is imported"


def test_no_public_name_is_a_module_name():
    names = {m.stem for m in MODULES}
    for notebook in NOTEBOOKS:
        for tree in exported(notebook):
            public = {n.name for n in tree.body if isinstance(n, DEFINITION) and not n.decorator_list}
            assert not public & names, f"{notebook.name} exports {public & names}, which hides a module"


def test_imports_stand_alone_in_their_cells():
    for notebook in NOTEBOOKS:
        for cell in cells(notebook, "code"):
            body = ast.parse("\n".join(line for line in source(cell).splitlines() if not line.startswith("%"))).body
            imports = [isinstance(n, ast.Import | ast.ImportFrom) for n in body]
            assert all(imports) or not any(imports), f"{notebook.name}: a cell mixes imports with code:\n{source(cell)}"


def test_settings_mirror_pyproject():
    mirror = configparser.ConfigParser()
    mirror.read(ROOT / "settings.ini")
    s, p, n = mirror["DEFAULT"], PROJECT["project"], PROJECT["tool"]["nbdev"]
    version = re.search(r'__version__ = "(.+)"', (ROOT / "scoreae" / "__init__.py").read_text())[1]
    assert s["version"] == version == importlib.metadata.version("scoreae")
    assert (s["lib_name"], s["description"], s["license"]) == (p["name"], p["description"], p["license"])
    assert s["requirements"].split() == p["dependencies"] and s["keywords"].split(", ") == p["keywords"]
    assert s["doc_host"] + s["doc_baseurl"] == p["urls"]["Documentation"] and s["git_url"] == p["urls"]["Repository"]
    assert p["requires-python"].startswith(f">={s['min_python']}")
    assert s["tst_flags"] == n["tst_flags"] and s.getboolean("custom_sidebar") == n["custom_sidebar"]


def test_constraints_are_what_is_installed():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    names = {re.sub(r"[-_.]+", "-", k).lower(): v for k, v in pins.items()}
    groups = (PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values())
    wanted = [r for group in groups for r in group]
    for requirement in wanted:
        name = re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()
        if name == "scoreae": continue
        assert name in names, f"constraints.txt does not pin {name}"
        try: installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError: continue  # an extra that is not installed
        assert installed.split("+")[0] == names[name], f"{name} {installed} is installed, not {names[name]}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_budget(notebook):
    all_cells, size = cells(notebook), notebook.stat().st_size
    words = sum(len(source(c).split()) for c in all_cells if c["cell_type"] == "markdown")
    public = [n for tree in exported(notebook) for n in tree.body if isinstance(n, DEFINITION) and n.name[0] != "_"]
    names = [n.name for n in public if not any("patch" in ast.unparse(d) for d in n.decorator_list)]
    assert len(all_cells) <= 45 and words <= 1500 and size <= 300_000, (len(all_cells), words, size)
    assert len(names) <= MANY.get(notebook.stem, 12), names
    first = source(all_cells[0])
    assert re.match(r"# \S.*\n\n> \S.*\Z", first), "a notebook begins with its title and one > line"
    if notebook.stem != "index": assert any("## What can go wrong" in source(c) for c in all_cells)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_executed_and_plain(notebook):
    nb = json.loads(notebook.read_text())
    assert nb["metadata"] == {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    kinds = {o["output_type"] for c in nb["cells"] for o in c.get("outputs", [])}
    assert "error" not in kinds
    if notebook.stem != "18_zoo": assert kinds, "the notebook has no outputs: execute it"
    text = notebook.read_text()
    assert "widget-view" not in text and "/site-packages/" not in text and "Warning:" not in text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_page_can_be_read(notebook):
    "Prose first; visible code fits the column; a figure has a number, a point and a description; no raw dictionaries."
    found = [c for c in cells(notebook) if not re.match(r"#\| (hide|default_exp)", source(c))]
    if notebook.stem != "index": assert found[1]["cell_type"] == "markdown", "the page opens with code"
    code = [c for c in cells(notebook, "code") if not re.match(r"#\| exports?\b", source(c))]
    lines = [x for c in code for x in source(c).splitlines() if not x.startswith("#|")]
    assert max(map(len, lines), default=0) <= 88, max(lines, key=len)
    for c in code:
        outputs, told = [o.get("data", {}) for o in c["outputs"]], source(c)
        figures = [d for d in outputs if d.keys() & {"image/png", "image/svg+xml"}]
        assert len(figures) <= 1, f"several figures in one cell:\n{told[:200]}"
        for figure in figures:
            wanted = ("#| label: fig-", "#| fig-cap: ", "#| fig-alt: ")
            assert all(key in told for key in wanted), f"a figure without one of {wanted}:\n{told[:200]}"
            assert not figure.keys() >= {"image/png", "image/svg+xml"}, "the figure is stored twice"
        plain = ["".join(d["text/plain"]) for d in outputs if d.keys() == {"text/plain"}]
        assert not any(p[0] == "{" and p.count("\n") > 2 for p in plain), f"a dictionary for a table:\n{plain}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_exported_code_is_short_and_documented(notebook):
    for tree in exported(notebook):
        for f in functions(tree):
            length = f.end_lineno - f.lineno + 1 - len((ast.get_docstring(f) or "").splitlines())
            assert length <= 25, f"{f.name} has {length} lines"
        for n in tree.body:
            if isinstance(n, DEFINITION) and n.name[0] != "_": assert ast.get_docstring(n), f"{n.name}: no docstring"


def test_symlinks_and_names():
    link = ROOT / "nbs" / "_quarto.yml"
    assert link.is_symlink() and link.resolve() == ROOT / "_quarto.yml"
    pages = {p.name: p for p in (ROOT / "docs").glob("*.md")}
    pages |= {f"results-{p.name}": p for p in (ROOT / "docs" / "results").glob("*.md")}
    for name, page in pages.items(): assert (ROOT / "nbs" / name).resolve() == page, f"link nbs/{name} to {page}"


def test_ruff():
    command = [BIN / "ruff", "check", "--no-cache", "scoreae", "tests", "docs", "bench", "nbs"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
