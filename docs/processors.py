"""What nbdev does to a page of the site beyond its defaults: named in pyproject.toml, found on PYTHONPATH=docs.

Source is folded, imports and tests of errors are left out (they run all the same), links to own pages are relative, a
signature has one parameter a line, and each page offers its notebook.
"""

import ast
import inspect
import re
from functools import cache
from pathlib import Path

from nbdev.process import Processor
from nbdev.showdoc import BasicMarkdownRenderer

NBS = Path(__file__).resolve().parent.parent / "nbs"
WIDTH = 60  # a signature that is no longer stands on one line
LONG = 16  # lines of a cell that is not folded, at most
FOLD = ('code-fold: show\n#| code-summary: "Exported source"', 'code-fold: true\n#| code-summary: "Source"')


def _body(source: str) -> list[ast.stmt]:
    try: return ast.parse(source).body
    except SyntaxError: return []  # a cell magic


def is_import(source: str) -> bool:
    "Whether a cell only imports."
    body = _body(source)
    return bool(body) and all(isinstance(n, ast.Import | ast.ImportFrom) for n in body)


def is_error_test(source: str) -> bool:
    "Whether a cell does nothing but expect errors."
    expects = lambda n: isinstance(n, ast.With) and "expect_fail" in ast.unparse(n.items[0])
    body = _body(source)
    return bool(body) and all(expects(n) for n in body)


def quiet(cell) -> None:
    "Imports and tests of errors leave the page; exported source, the code of figures and long checks are folded."
    if cell.cell_type != "code": return
    lines = [x for x in cell.source.splitlines() if not x.startswith("#|")]
    figure, code = "#| label: fig-" in cell.source, "\n".join(lines)
    if is_import(code) or is_error_test(code): del cell["source"]
    elif "code-fold: show" in cell.source: cell.source = cell.source.replace(*FOLD)
    elif (figure or len(lines) > LONG) and not re.search(r"#\| (echo|code-fold):", cell.source):
        summary = "Code of the figure" if figure else "Code of the check"
        cell.source = f'#| code-fold: true\n#| code-summary: "{summary}"\n{cell.source}'


def depth(path: Path) -> str:
    "The way from a page up to the root of the site."
    here = Path(path).resolve().relative_to(NBS)
    return "../" * (len(here.parts) - 1)


def number(page: str) -> int:
    "The number of the page at a place like foundations/paths.html, 99 if it has none."
    part, _, stem = page.partition("/")
    found = list((NBS / part).glob(f"[0-9][0-9]_{stem.removesuffix('.html')}.ipynb"))
    return int(found[0].name[:2]) if found else 99


@cache
def symbols() -> dict[str, list[tuple[int, str]]]:
    "Functions and classes by name: the numbers and places of the pages that export one of that name."
    from scoreae._modidx import d

    found = {}
    for module, names in d["syms"].items():
        for full, (place, _) in names.items():
            name = full.removeprefix(f"{module}.")
            if "." not in name: found.setdefault(name, []).append((number(place.split("#")[0]), place))
    return found


def meant(name: str, page: int) -> str | None:
    "The place of what a page means by `name`: its own, else the last before it, else the only one there is."
    own = sorted(symbols().get(name.removesuffix("()").split(".")[0], []))
    before = [p for p in own if p[0] <= page]
    if before: return before[-1][1]
    return own[0][1] if len(own) == 1 else None


def linked(text: str, page: int, root: str) -> str:
    "Markdown with names in backticks as links, outside code, headings and links."
    link = lambda m: f"[{m[0]}]({root}{to})" if (to := meant(m[1], page)) else m[0]
    apart = r"(^```.*?^```|^#+ [^\n]*$|\[[^\]\n]*\]\([^)\n]*\))"
    parts = re.split(apart, text, flags=re.DOTALL | re.MULTILINE)
    return "".join(p if i % 2 else re.sub(r"`([A-Za-z_][\w.]*(?:\(\))?)`", link, p) for i, p in enumerate(parts))


class local(Processor):
    "Names link to the page that is meant, so that a copy of the site works anywhere; a page offers its notebook."

    def begin(self):
        name = Path(self.nb.path_).name
        self.page = int(name[:2]) if name[:2].isdigit() else 99
        self.root, path = depth(self.nb.path_), Path(self.nb.path_)
        file = f"{self.root}notebooks/{path.parent.name + '/' if self.root else ''}{path.name}"
        for cell in self.nb.cells[1:2]:  # nbdev's warning, which comes after the title
            cell.source += f'\n\n<a class="notebook" href="{file}" download>Download this notebook</a>'

    def cell(self, cell):
        show = lambda text: linked(text, self.page, self.root)
        if cell.cell_type == "markdown" and not cell.source.startswith("---"): cell.source = show(cell.source)
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/markdown")
            if text: output["data"]["text/markdown"] = show("".join(text))


def short(annotation) -> str:
    "A type as one would write it: without the modules that it comes from."
    if annotation is inspect.Parameter.empty: return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text)


def value(default) -> str:
    "A default as one would write it."
    if inspect.isclass(default) or inspect.isroutine(default): return default.__name__
    return re.sub(r" at 0x[0-9a-f]+|__main__\.", "", repr(default))


def parameter(p: inspect.Parameter) -> str:
    kind = short(p.annotation)
    star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
    if p.default is p.empty: return f"{star}{p.name}{': ' + kind if kind else ''}"
    return f"{p.name}: {kind} = {value(p.default)}" if kind else f"{p.name}={value(p.default)}"


def parameters(sym) -> tuple[list[str], str]:
    "The parameters of a function or class, fields of a named tuple among them, and what it returns."
    try: sig = inspect.signature(sym, eval_str=False)
    except (ValueError, TypeError): return [], ""
    found = [parameter(p) for p in sig.parameters.values() if p.name not in ("self", "cls")]
    variadic = [p for p in sig.parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    plain = inspect.isclass(sym) and sym.__init__ is object.__init__ and len(variadic) == len(sig.parameters)
    star = next((i for i, p in enumerate(sig.parameters.values()) if p.kind is p.KEYWORD_ONLY), None)
    if star is not None and not any(p.kind is p.VAR_POSITIONAL for p in variadic): found.insert(star, "*")
    return [] if plain else found, "" if inspect.isclass(sym) else short(sig.return_annotation)


def signature(sym, name: str) -> str:
    "How a symbol is called: on one line if that is short, else with one parameter a line."
    found, back = parameters(sym)
    head, tail = ("class " if inspect.isclass(sym) else "") + name, f" -> {back}" if back else ""
    line = f"{head}({', '.join(found)}){tail}"
    if len(line) <= WIDTH or not found: return line
    return "\n".join([f"{head}(", *(f"    {p}," for p in found), f"){tail}"])


class Renderer(BasicMarkdownRenderer):
    "Source link, heading, signature, docstring."

    def __init__(self, sym, name: str | None = None, title_level: int = 3):
        super().__init__(sym, name=name, title_level=title_level)
        self.dm = signature(sym, self.nm)
