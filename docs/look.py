"""The site without Quarto: pages drawn by pandoc with the site's own CSS, to look at and to measure.

    python docs/look.py [--out _look]       draw all pages into a folder; open its index.html
    python docs/look.py --measure           and print the widest element of each page at 1400 and at 420 pixels, and the
                                            share of its height that is code; fails if a page or an equation sticks out
    python docs/look.py --shots DIR P ...   and take screenshots of pages P (index, foundations/paths), wide and narrow

Measuring and screenshots need Chromium (`chromium` or `google-chrome` on the path). What Quarto adds (menus, search,
themes) is not drawn: its column is 800 pixels wide, as here.
"""

import argparse
import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import stage
import yaml
from stage import NBS, ROOT

FENCE = re.compile(r"(^```.*?^```[^\n]*$)", re.DOTALL | re.MULTILINE)
EQUATION = re.compile(r"\$\$(.+?)\$\$(?:[ \t]*\{#(eq-[\w-]+)\})?", re.DOTALL)
WIDTHS = (1400, 420)
SHELL = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="{root}assets/favicon.svg">
<style>
:root{{color-scheme:light dark}}body{{margin:0;font:17px/1.6 system-ui,sans-serif}}nav.top{{padding:.6rem 1rem;
background:#2780e3;color:#fff}}nav.top a{{color:#fff;margin-right:1.2rem;text-decoration:none}}
.page{{display:grid;grid-template-columns:minmax(0,1fr);max-width:1400px;margin:auto}}nav.side{{display:none}}
main{{padding:0 12px;min-width:0;max-width:800px;box-sizing:border-box;width:100%}}a{{color:#2780e3}}
pre{{background:#8881;padding:.5rem;border-radius:4px}}.subtitle{{opacity:.7;font-size:1.15rem}}
@media(min-width:1000px){{.page{{grid-template-columns:260px minmax(0,800px) 1fr}}
nav.side{{display:block;font-size:.85rem;padding:1rem}}nav.side a{{display:block;text-decoration:none}}}}
</style><link rel="stylesheet" href="{root}styles.css"></head><body>
<nav class="top navbar"><a href="{root}index.html"><b>scoreae</b></a><a href="{root}tutorial.html">Tutorial</a>
<a href="{root}own-images.html">How to</a><a href="{root}api.html">API</a><a href="{root}results.html">Results</a></nav>
<div class="page"><nav class="side">{side}</nav><main><h1>{title}</h1><p class="subtitle">{subtitle}</p>
{body}</main></div>{probe}</body></html>"""
PROBE = """<script>
const report = () => {
  const column = document.querySelector('main').getBoundingClientRect(), wide = document.documentElement.clientWidth
  const words = e => [...e.textContent.trim()].slice(0, 40).join('')
  const name = e => e.tagName.toLowerCase() + (e.id ? '#' + e.id : '') + ' ' + words(e)
  let widest = [0, ''], sticks = []
  for (const e of document.querySelectorAll('main *')) {
    const box = e.getBoundingClientRect()
    if (!box.width || e.closest('table *, math, pre *')) continue
    if (box.right - column.left > widest[0]) widest = [box.right - column.left, name(e)]
  }
  for (const p of document.querySelectorAll('main p:has(math[display=block])'))
    if (p.scrollWidth > p.clientWidth + 1) sticks.push([p.scrollWidth - p.clientWidth, name(p)])
  const blocks = [...document.querySelectorAll('main div.sourceCode')].filter(e => !e.closest('details:not([open])'))
  const page = document.querySelector('main').getBoundingClientRect().height
  const code = blocks.reduce((a, e) => a + e.getBoundingClientRect().height, 0)
  const scroll = document.documentElement.scrollWidth - wide
  parent.postMessage({column: column.width, scroll, widest, sticks, height: page, code}, '*')
}
addEventListener('load', () => document.fonts.ready.then(() => setTimeout(report, 50)))
</script>"""
FRAME = """<!doctype html><meta charset="utf-8"><pre id="done"></pre><script>
const pages = PAGES, found = []
const next = i => {
  if (i == pages.length) { document.getElementById('done').textContent = JSON.stringify(found); return }
  const [page, width] = pages[i], f = document.createElement('iframe')
  f.width = width; f.height = 900; f.src = page
  onmessage = e => { found.push({...e.data, page, width}); f.remove(); next(i + 1) }
  document.body.append(f)
}
next(0)
</script>"""


def target(name: str) -> str:
    "Where a page lies on the site: foundations/02_paths.ipynb is foundations/paths.html."
    return re.sub(r"(^|/)\d+_", r"\1", re.sub(r"\.(ipynb|md)$", ".html", name))


def numbered(page: str) -> str:
    "A page with its equations and figures numbered, and references as links, as Quarto writes them."
    labels = [k for k in stage.LABEL.findall(page) if k[:3] in ("eq-", "fig")]
    kinds = {"eq": "Eq.", "fig": "Figure"}
    order = {kind: [k for k in labels if k.startswith(kind)] for kind in kinds}
    number = {k: (kinds[kind], i) for kind, found in order.items() for i, k in enumerate(found, 1)}

    def prose(text: str) -> str:
        tag = lambda m: f"[$${m[1].rstrip()}\\qquad({number[m[2]][1]})$$]{{#{m[2]}}}" if m[2] else m[0]
        text = EQUATION.sub(tag, text)
        figure = lambda m: f"![Figure {number[m[3]][1]}: {m[1]}]{m[2]}"
        text = re.sub(r"!\[(.+?)\](\([^)]*\)\{#(fig-[\w-]+))", figure, text)
        link = lambda m: f"[{number[m[1]][0]}&nbsp;{number[m[1]][1]}](#{m[1]})" if m[1] in number else m[0]
        text = stage.REFERENCE.sub(link, text).replace("fig-alt=", "alt=")
        return re.sub(r"\]\(([^)\s:]+\.(?:ipynb|md))(#[^)]*)?\)", lambda m: f"]({target(m[1])}{m[2] or ''})", text)

    parts = FENCE.split(page)
    return "".join(p if i % 2 else prose(p) for i, p in enumerate(parts))


def draw(name: str, page: str, out: Path, side: str, probe: bool) -> str:
    "Write one page as HTML; returns its place."
    import pypandoc

    front = stage.FRONT.match(page)
    fields = yaml.safe_load(front[1]) if front else {}
    command = [pypandoc.get_pandoc_path(), "-f", "markdown", "-t", "html5", "--mathml", "--citeproc", "--wrap=none"]
    command += ["--bibliography", str(NBS / "references.bib"), "--syntax-highlighting=none"]
    command += ["--lua-filter", str(NBS / "assets" / "spacing.lua")]
    text = numbered(page[front.end():] if front else page)
    run = subprocess.run(command, input=text, cwd=(out / name).parent, capture_output=True, text=True)
    body = re.sub(r'<pre class="python">', '<div class="sourceCode"><pre class="python">', run.stdout)
    body = re.sub(r'(<div class="sourceCode"><pre class="python">.*?</pre>)', r"\1</div>", body, flags=re.DOTALL)
    root, place = "../" * name.count("/"), target(name)
    words = {k: html.escape(str(fields.get(k, ""))) for k in ("title", "description")}
    links = re.sub(r'href="', f'href="{root}', side)
    text = SHELL.format(title=words["title"], subtitle=words["description"], root=root, side=links, body=body,
                        probe=PROBE if probe else "")  # fmt: skip
    (out / place).write_text(text)
    return place


def site(out: Path, probe: bool = False) -> list[str]:
    "Draw all pages into the folder `out`; returns their places."
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    pages = stage.pages(out)
    for extra in ("styles.css", "assets"):
        copy = shutil.copytree if (NBS / extra).is_dir() else shutil.copy
        copy(NBS / extra, out / extra)
    names = sorted(pages, key=lambda n: (n.count("/") == 0, Path(n).name))
    side = "".join(f'<a href="{target(n)}">{Path(n).stem.replace("_", " ")}</a>' for n in names)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda n: draw(n, pages[n], out, side, probe), names))


def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if found is None: sys.exit("measuring needs Chromium on the path")
    return found


def chromium(*words: str) -> str:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb"]
    return subprocess.run([browser(), *flags, *words], capture_output=True, text=True).stdout


def serve(folder: Path) -> http.server.ThreadingHTTPServer:
    "Serve a folder on a free port of this machine."
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *a: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def measure(out: Path, places: list[str]) -> list[dict]:
    "What sticks out where: a dictionary for each page and width."
    jobs = [[p, w] for w in WIDTHS for p in places]
    (out / "measure.html").write_text(FRAME.replace("PAGES", json.dumps(jobs)))
    server = serve(out)
    url = f"http://127.0.0.1:{server.server_port}/measure.html"
    dom = chromium("--virtual-time-budget=600000", "--dump-dom", "--window-size=1500,1000", url)
    server.shutdown()
    (out / "measure.html").unlink()
    found = re.search(r'<pre id="done">(.+?)</pre>', dom, re.DOTALL)
    return json.loads(html.unescape(found[1])) if found else sys.exit("Chromium measured nothing")


def table(found: list[dict]) -> int:
    "Print the measurements; returns how many pages have something that sticks out."
    bad = 0
    for f in found:
        scrolls, equations = f["scroll"] > 0, f["sticks"] if f["width"] == WIDTHS[0] else []
        bad += bool(scrolls or equations)
        share = f"{f['code'] / f['height']:4.0%} code" if f["width"] == WIDTHS[0] else ""
        widest = f"column {f['column']:4.0f} widest {f['widest'][0]:5.0f} {f['widest'][1][:36]!r}"
        wrong = ["SCROLLS"] * scrolls + [f"EQUATION +{s[0]}: {s[1]}" for s in equations]
        print(f"{f['width']:5} {f['page']:40} {widest} {share}", *wrong)
    wide = [f for f in found if f["width"] == WIDTHS[0]]
    print(f"code is {sum(f['code'] for f in wide) / sum(f['height'] for f in wide):.1%} of the height of all pages")
    return bad


def shots(out: Path, folder: Path, places: list[str]) -> None:
    "Screenshots of pages at both widths."
    folder.mkdir(parents=True, exist_ok=True)
    server = serve(out)
    for place in places:
        for width in WIDTHS:
            file = folder / f"{place.replace('/', '-')}-{width}.png"
            words = [f"--screenshot={file}", f"--window-size={width},1600", "--virtual-time-budget=3000"]
            chromium(*words, f"http://127.0.0.1:{server.server_port}/{place}.html")
    server.shutdown()


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=ROOT / "_look", help="folder for the pages")
    p.add_argument("--measure", action="store_true", help="print the widest element of each page")
    p.add_argument("--shots", nargs="+", metavar=("DIR", "PAGE"), help="folder, and pages to take screenshots of")
    a = p.parse_args()
    places = site(a.out, probe=a.measure)
    if a.shots: shots(a.out, Path(a.shots[0]), a.shots[1:])
    return table(measure(a.out, places)) > 0 if a.measure else 0


if __name__ == "__main__": sys.exit(main())
