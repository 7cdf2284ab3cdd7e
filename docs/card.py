"""Draw nbs/assets/card.png, what a link to the site shows: the name, one sentence, and the picture of home.

    python docs/card.py
"""

import json

import stage
from look import chromium
from stage import NBS

PAGE = """<!doctype html><meta charset="utf-8"><style>
body{{margin:0;width:1200px;height:630px;background:#0b2a4a;color:#fff;font:34px/1.35 system-ui,sans-serif}}
div{{padding:46px 60px}}h1{{margin:0 0 6px;font-size:76px}}p{{margin:0 0 30px;opacity:.9}}
img{{width:1080px;background:#fff;padding:10px;border-radius:10px;box-sizing:border-box}}</style>
<div><h1>scoreae</h1><p>Score-based autoencoders: representation learning with diffusion models,
every model under one bound.</p><img src="data:image/png;base64,{picture}"></div>"""


def main() -> None:
    cells = json.loads((NBS / "index.ipynb").read_text())["cells"]
    home = next(c for c in cells if "fig-home" in stage.text_of(c["source"]))
    picture = next(o["data"]["image/png"] for o in home["outputs"] if "image/png" in o.get("data", {}))
    page = NBS / "assets" / "card.html"
    page.write_text(PAGE.format(picture=stage.text_of(picture)))
    chromium(f"--screenshot={NBS / 'assets' / 'card.png'}", "--window-size=1200,630", page.as_uri())
    page.unlink()


if __name__ == "__main__": main()
