"""The pages are sound without Quarto: staged, through strict pandoc; README and results are their sources'."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
import rendered  # noqa: E402
import stage  # noqa: E402
import written  # noqa: E402


def test_every_page_is_sound():
    "Unknown citation, bad TeX, unresolved reference, dead link or missing image: each is a failure."
    run = subprocess.run([sys.executable, "docs/stage.py"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]


@pytest.mark.parametrize(("page", "complaint"), [
    ("---\ntitle: x\n---\n\nSee [@nobody1900].", "nobody1900"),
    ("---\ntitle: x\n---\n\n$$\\frac{1$$", "TeX"),
    ("---\ntitle: x\n---\n\nBy @eq-gone.", "@eq-gone has no label"),
    ("---\ntitle: x\n---\n\n$$1$$ {#eq-a} and $$2$$ {#eq-a}", "defined twice"),
    ("---\ntitle: x\n---\n\n![](no.png)", "no.png is missing"),
    ("---\ntitle: x\n---\n\n![](no.png)", "no.png has no caption"),
    ("---\ntitle: x\n---\n\n[there](99_nowhere.ipynb)", "99_nowhere"),
    ("---\ntitle: x\n---\n\n[there](../q.ipynb)", "../q.ipynb"),
    ("no front matter", "no title"),
])  # fmt: skip
def test_the_check_can_fail(page, complaint, tmp_path):
    assert complaint in "\n".join(stage.faults("p", page, tmp_path, set()))


def test_a_sound_page_passes(tmp_path):
    page = "---\ntitle: x\n---\n\n$$a=b$$ {#eq-a}\n\nBy @eq-a and [@kim2025dbae; @ho2020ddpm].\n"
    assert stage.faults("p", page, tmp_path, set()) == []


def test_links_lead_from_page_to_page():
    pages = {"a/01_x.ipynb", "b/02_y.ipynb", "z.md"}
    alive = ("../b/02_y.ipynb#top", "01_x.ipynb", "../z.md", "../b/y.html", "#here", "https://x.org")
    assert not any(stage.dead(t, "a/01_x.ipynb", pages) for t in alive)
    assert all(stage.dead(t, "a/01_x.ipynb", pages) for t in ("02_y.ipynb", "z.md", "../b/x.html"))


def test_readme_is_the_index():
    page, pictures = written.readme()
    assert (ROOT / "README.md").read_text() == page, "edit nbs/index.ipynb, then `make export`"
    assert {p.name: p.read_bytes() for p in (ROOT / "docs" / "images").iterdir()} == pictures


@pytest.mark.parametrize(("name", "text"), written.written().items(), ids=lambda v: v if len(v) < 80 else "")
def test_written_pages_are_what_they_are_written_from(name, text):
    assert (ROOT / name).read_text() == text, f"{name}: run `make export`"


def test_quarto_configuration():
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text())
    assert config["bibliography"] == "references.bib" and not config["execute"]["enabled"]
    listed = re.findall(r"(?:href: |- )(\S+\.(?:ipynb|md))$", (ROOT / "nbs" / "sidebar.yml").read_text(), re.MULTILINE)
    pages = [p for p in (ROOT / "nbs").rglob("[!._]*") if p.suffix in (".ipynb", ".md") and p.stem != "index"]
    assert sorted(listed) == sorted(str(p.relative_to(ROOT / "nbs")) for p in pages), "each page once in the sidebar"
    nbdev = yaml.safe_load((ROOT / "nbs" / "nbdev.yml").read_text())
    assert nbdev["project"]["output-dir"] == "_docs"  # never docs: nbdev-docs deletes that folder first
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"): assert yaml.safe_load(workflow.read_text())["jobs"]


def test_citations_are_used():
    keys = set(re.findall(r"^@\w+\{([^,]+),", (ROOT / "nbs" / "references.bib").read_text(), re.MULTILINE))
    text = "".join(p.read_text() for p in (ROOT / "nbs").rglob("*.ipynb"))
    assert keys - {k for k in keys if f"@{k}" in text} == set(), "references that no page cites"


SOUND = """<html><body><nav class="navbar"></nav><h2 id="one">One</h2><a href="b/c.html#two">c</a><a href="#one">up</a>
<a href="https://example.org/x">out</a><img src="p.png"><code>?@eq-code</code><math><mi>x</mi></math></body></html>"""
BROKEN = {
    "unresolved reference ?@eq-gone": "<p>By <strong>?@eq-gone</strong></p>",
    "unknown citation nobody1900?": "<p>See <strong>nobody1900?</strong></p>",
    "c.html leads nowhere": '<a href="c.html">c</a>',
    "no such anchor": '<a href="b/c.html#three">c</a>',
    "gone.png leads nowhere": '<img src="gone.png">',
    "gone.css leads nowhere": '<link rel="stylesheet" href="gone.css">',
    "__main__ in its text": "<p>x: __main__.Path</p>",
    "raw mathematics": "<p>$$x$$</p>",
}


def rendered_site(folder, extra=""):
    (folder / "b").mkdir(parents=True, exist_ok=True)
    (folder / "p.png").write_bytes(b"")
    (folder / "index.html").write_text(SOUND.replace("</body>", extra + "</body>"))
    other = "<nav class=\"navbar\"></nav><h2 id=\"two\">Two</h2><a href=\"../index.html\">up</a>"
    (folder / "b" / "c.html").write_text(other)


def test_a_sound_site_passes(tmp_path):
    rendered_site(tmp_path)
    assert rendered.faults(tmp_path, [Path("index.ipynb"), Path("b/03_c.ipynb")]) == []


@pytest.mark.parametrize("complaint", BROKEN)
def test_the_rendered_folder_is_asked(complaint, tmp_path):
    "nbdev drops Quarto's warnings: each of these would be published."
    rendered_site(tmp_path, BROKEN[complaint])
    assert complaint in "\n".join(rendered.faults(tmp_path))


def test_a_missing_page_or_menu_is_found(tmp_path):
    rendered_site(tmp_path)
    (tmp_path / "b" / "c.html").write_text('<h2 id="two">Two</h2>')
    assert rendered.faults(tmp_path, [Path("b/04_d.ipynb")]) == ["b/c.html: no menu", "b/d.html: no such page"]
    assert "no pages" in rendered.faults(tmp_path / "b" / "empty")[0]


@pytest.mark.parametrize(("tex", "want"), [
    (r"\nabla\log p", r"\nabla\,\log\, p"), (r"\tfrac12\log\gamma", r"\tfrac12\,\log\,\gamma"),
    (r"=\log(1+x)", r"=\log(1+x)"), (r"\cdot\exp(x)\max_j", r"\cdot\exp(x)\,\max_j"),
    (r"\|x-y\|^2", r"\lVert x-y\rVert ^2"), (r"\mathrm{KL}(q\,\|\,p)", r"\mathrm{KL}(q\,\|\,p)"),
])  # fmt: skip
def test_spacing_of_mathematics(tex, want):
    "What MathML leaves out beside function names and bars; other formats keep their TeX as it is."
    import pypandoc

    def run(*to):
        filtered = ["--lua-filter", ROOT / "nbs" / "assets" / "spacing.lua"]
        line = [pypandoc.get_pandoc_path(), "-f", "markdown", *filtered, *to]
        return subprocess.run(line, input=f"${tex}$", text=True, capture_output=True, check=True).stdout

    assert want in run("-t", "html", "--katex")
    assert tex in run("-t", "commonmark_x")


def test_names_link_to_what_is_meant():
    "A name means the page's own, else the last before it; a later one only if there is no other."
    from processors import linked, meant

    assert meant("fit", 12) == "use/training.html#fit" and meant("sample", 8) == "foundations/samplers.html#sample"
    assert meant("sample", 53) == "commands/applying.html#sample"
    assert meant("encode", 5) == "commands/applying.html#encode"
    assert meant("GaussianPrior.noised", 14) == "models/priors.html#gaussianprior" and meant("nobody", 3) is None
    text = "## `Path`\n\n`Path` and [`Path`](x.html)\n\n```python\n`Path`\n```\n"
    want = "## `Path`\n\n[`Path`](../foundations/paths.html#path) and [`Path`](x.html)\n\n```python\n`Path`\n```\n"
    assert linked(text, 4, "../") == want


def test_signatures():
    "One parameter a line where they do not fit on one, short types, fields of named tuples, nothing of __main__."
    from collections.abc import Callable, Sequence
    from typing import NamedTuple

    from processors import signature

    class Pair(NamedTuple):
        first: torch.Tensor
        second: float | None = None

    class Plain: pass

    def long(x: torch.Tensor, names: Sequence[str], *, fn: Callable[[torch.Tensor], int] = len, seed=0) -> Pair: ...

    Pair.__module__ = "__main__"
    assert signature(Pair, "Pair") == "class Pair(first: Tensor, second: float | None = None)"
    assert signature(Plain, "Plain") == "class Plain()"
    lines = signature(long, "long").splitlines()
    assert lines[0] == "long(" and lines[1:4] == ["    x: Tensor,", "    names: Sequence[str],", "    *,"]
    assert lines[4] == "    fn: Callable[[Tensor], int] = len," and "__main__" not in "".join(lines)


def test_what_leaves_a_page():
    from types import SimpleNamespace

    from processors import is_error_test, is_import, quiet

    assert is_import("import torch\nfrom a import b") and not is_import("import torch\nx = 1")
    assert is_error_test("with expect_fail(ValueError): f()") and not is_error_test("with open(x): f()")
    cell = SimpleNamespace(cell_type="code", source="#| label: fig-x\nplot()")
    quiet(cell)
    assert cell.source.splitlines()[:2] == ["#| code-fold: true", '#| code-summary: "Code of the figure"']
