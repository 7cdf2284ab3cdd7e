"""Inspect the rendered site: nbdev drops what Quarto warns of, so the folder itself is asked.

    python docs/rendered.py _docs            fail on references, citations, links, anchors or images that lead nowhere
    python docs/rendered.py _docs --offer    first put the notebooks where each page offers its own

Quarto writes an unresolved reference as ?@eq-name, an unknown citation as name? in bold, and leaves dead links alone.
"""

import argparse
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
SITE = "https://scoreae.github.io/scoreae/"
SKIP = ("script", "style", "code", "pre", "math")


class Page(HTMLParser):
    "What a page links to, the anchors it has, its text outside code, and whether it has a menu."

    def __init__(self, text: str):
        super().__init__()
        self.links, self.images, self.anchors, self.words, self.bold = [], [], set(), [], []
        self.menu, self.inside = False, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.anchors |= {v for k, v in attrs if k in ("id", "name") and v}
        self.menu |= "navbar" in (a.get("class") or "")
        if tag == "a" and a.get("href"): self.links.append(a["href"])
        if tag == "link" and a.get("rel") in ("stylesheet", "icon"): self.images.append(a.get("href"))
        if tag in ("img", "script") and a.get("src"): self.images.append(a["src"])
        if tag in (*SKIP, "strong"): self.inside.append(tag)

    def handle_endtag(self, tag):
        if tag in self.inside: del self.inside[len(self.inside) - 1 - self.inside[::-1].index(tag):]

    def handle_data(self, data):
        if not set(self.inside) & set(SKIP): self.words.append(data)
        if "strong" in self.inside: self.bold.append(data)


def local(target: str, here: Path, root: Path) -> tuple[Path, str] | None:
    "The file and anchor that a link of the page `here` leads to, or None if it leaves the site."
    target = target.removeprefix(SITE) if (absolute := target.startswith(SITE)) else target
    parts = urlsplit(target)
    if parts.scheme or parts.netloc: return None
    path = unquote(parts.path)
    if not path: file = root / "index.html" if absolute else here
    else: file = (root / path if absolute else here.parent / path).resolve()
    return (file / "index.html" if file.is_dir() else file), unquote(parts.fragment)


def faults(root: Path, notebooks: list[Path] = ()) -> list[str]:
    "All that leads nowhere in a rendered folder, and pages that are missing."
    root = root.resolve()
    pages = {p: Page(p.read_text(encoding="utf-8")) for p in sorted(root.rglob("*.html")) if "site_libs" not in p.parts}
    found = [] if pages else [f"{root}: no pages"]
    for file, page in pages.items():
        name, text = str(file.relative_to(root)), " ".join(page.words)
        found += [f"{name}: unresolved reference {m}" for m in sorted(set(re.findall(r"\?@[\w-]+", text)))]
        found += [f"{name}: unknown citation {b}" for b in page.bold if re.fullmatch(r"\(?[\w:.-]+\?\)?", b.strip())]
        found += [f"{name}: __main__ in its text"] * ("__main__." in text)
        found += [f"{name}: raw mathematics"] * ("$$" in text)
        found += [f"{name}: no menu"] * (not page.menu)
        for target in dict.fromkeys([*page.links, *page.images]):
            there = local(target, file, root)
            if there is None: continue
            path, anchor = there
            if not path.exists(): found.append(f"{name}: {target} leads nowhere")
            elif anchor and path in pages and anchor not in pages[path].anchors | {"top"}:
                found.append(f"{name}: {target} has no such anchor")
    wanted = {re.sub(r"(^|/)\d+_", r"\1", str(p.with_suffix(".html"))) for p in notebooks}
    return found + [f"{w}: no such page" for w in sorted(wanted) if not (root / w).exists()]


def offer(root: Path) -> list[Path]:
    "Copy the notebooks to notebooks/, where each page offers its own; returns them, relative to nbs/."
    files = sorted(p.relative_to(ROOT / "nbs") for p in (ROOT / "nbs").rglob("[!._]*.ipynb"))
    for f in files:
        (root / "notebooks" / f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "nbs" / f, root / "notebooks" / f)
    return files


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path)
    p.add_argument("--offer", action="store_true", help="copy the notebooks first, and ask for a page for each")
    a = p.parse_args()
    found = faults(a.folder, offer(a.folder) if a.offer else [])
    print("\n".join(found) or "the rendered site is sound")
    return bool(found)


if __name__ == "__main__": sys.exit(main())
