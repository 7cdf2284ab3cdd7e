# %% [markdown]
# # Pictures
#
# > Rows of images, losses, traversals, and a report in one file that opens anywhere.

# %% [markdown]
# Numbers choose between models; pictures tell whether the numbers mean anything. This page draws the few figures that every model gets, and binds them into a self-contained HTML report. It checks that a traversal finds the axes that are known to matter, and that the report asks nothing of the network. Each function takes what it draws as arguments and returns a matplotlib figure; nothing here trains or computes in secret.

# %%
#| default_exp use.pictures

# %%
#| exports
import base64
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import Tensor

from scoreae.core.checks import check_images, require, require_int, require_number
from scoreae.core.pages import columns
from scoreae.models.contract import Autoencoder, write_atomic
from scoreae.use.guidance import Axes
from scoreae.use.training import Fit

# %%
#| hide
import tempfile

from fastcore.test import expect_fail, test_close, test_eq

from scoreae import data
from scoreae.core.pages import paper
from scoreae.models.baselines import PCA
from scoreae.use.training import fit

# %%
#| hide
paper()
svg = get_ipython().display_formatter.formatters["image/svg+xml"]
svg.for_type_by_name("__main__", "Plot", lambda figure: None)  # this page's own: PNG


# %% [markdown]
# ## Rows of images

# %%
#| exports
class Plot(Figure):
    "A matplotlib figure that shows itself in a notebook, whatever the backend."

    def _repr_png_(self) -> tuple[bytes, dict]:
        width, height = (round(100 * side) for side in self.get_size_inches())
        return self.png(200), {"width": width, "height": height}  # the size on the page: two pixels for each of it

    def png(self, dpi: int) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=dpi)
        return buffer.getvalue()


def picture(x: Tensor) -> np.ndarray:
    "An image (C, H, W) in [-1, 1] as an array for plotting in [0, 1]: (H, W) if grey, (H, W, 3) if colour."
    require(x.ndim == 3 and x.shape[0] in (1, 3), "x", x, "an image (1 or 3, H, W)")
    x = ((x.detach().cpu().float() + 1) / 2).clamp(0, 1)
    return x[0].numpy() if x.shape[0] == 1 else x.permute(1, 2, 0).numpy()


def plot_rows(rows: dict[str, Tensor], title: str = "", size: float = 0.55) -> Plot:
    "One labelled row of images of `size` inches for each entry: {label: (N, C, H, W) in [-1, 1]}."
    n = max((len(x) for x in rows.values()), default=0)
    require(n > 0, "rows", rows, "at least one row with an image")
    text = 0.08 * max(len(label) for label in rows)  # inches for the labels
    with matplotlib.style.context("scoreae.paper"):
        fig = Plot(figsize=(0.2 + text + n * size, 0.25 + len(rows) * size + 0.25 * bool(title)))
        grid = fig.subplots(len(rows), n, squeeze=False, gridspec_kw={"wspace": 0.05, "hspace": 0.05})
        for axes, (label, images) in zip(grid, rows.items(), strict=True):
            for ax in axes: ax.set_axis_off()
            for ax, x in zip(axes, images, strict=False): ax.imshow(picture(x), vmin=0, vmax=1)
            axes[0].text(-0.15, 0.5, label, transform=axes[0].transAxes, ha="right", va="center", fontsize=9)
        if title: fig.suptitle(title, fontsize=11)
    return fig


# %%
x, x_test = data.digits(), data.digits("test")
model = PCA((1, 8, 8), 12)
record = fit(model, x)
test_eq(picture(x_test[0]).shape, (8, 8))

# %%
with expect_fail(ValueError, contains="x: expected an image"):
    picture(torch.zeros(2, 4, 4))

# %%
#| label: fig-rows
#| fig-cap: 'Held-out digits, and what twelve principal components keep of them: the shapes, blurred.'
#| fig-alt: 'Two rows of eight small grey images. Above handwritten digits, below blurred copies of them.'
rows = {"image": x_test[:8], "PCA": model.reconstruct(x_test[:8])}
plot_rows(rows, size=0.65)


# %% [markdown]
# ## Traversals
#
# To see what an axis does, move along it, a few standard deviations of the prior each way, and decode. Axes are ranked by how much the decoded image changes between the two ends. All decodes use the same noise.

# %%
#| exports
def traverse(model: Autoencoder, x: Tensor, axes: int = 3, n: int = 7, span: float = 2.0,
             steps: int = 10) -> dict[str, Tensor]:
    """Rows {axis: (n, C, H, W)} of one image (C, H, W), moved along the `axes` axes of its code that change it most.

    Each goes from -`span` to +`span` standard deviations of the model's prior, around the image's own code.
    """
    check_images(x[None], model.shape)
    z, std = model.encode(x[None]), model.prior.std.to(x.device)
    move = torch.diag(std * require_number(span, "span", 0, above=True))
    low, high = model.decode(z - move, steps=steps), model.decode(z + move, steps=steps)
    change = (high - low).flatten(1).square().sum(1)
    best = change.argsort(descending=True)[: require_int(axes, "axes")].tolist()
    at = torch.linspace(-1, 1, require_int(n, "n"), device=x.device)[:, None]
    return {f"axis {j}": model.decode(z + at * move[j], steps=steps) for j in best}


# %% [markdown]
# For PCA the change along component $j$ is known: a straight line of length $2\cdot\text{span}\cdot\sqrt{\lambda_j}$. So the axes must come out in their order, as long as nothing is clamped.

# %%
middle = model.picture(torch.zeros(1, 12))[0]
rows = traverse(model, middle.clamp(-1, 1), axes=3, span=0.1)
test_eq(list(rows), ["axis 0", "axis 1", "axis 2"])
length = (rows["axis 0"][-1] - rows["axis 0"][0]).norm()
test_close(length, 0.2 * model.prior.std[0], eps=0.05)

# %%
#| label: fig-traverse
#| fig-cap: 'The three axes of PCA that change a held-out digit most, an 8, each moved from -2 to 2 standard deviations.'
#| fig-alt: 'Three rows of seven small grey images, with the same blurred 8 in the middle. Along axis 0 its upper left fills with ink and its lower left is joined up; along axis 1 a bright spot appears in its waist; along axis 2 its right side grows brighter above.'
plot_rows(traverse(model, x_test[3]), size=0.65)


# %% [markdown]
# SAMI's axes say more about themselves: how many nats each carries at which noise level ([Guidance in use](43_guidance.ipynb)). `plot_axes` draws the highest ranked of them, and the cross term between axes, which should be small.

# %%
#| exports
def plot_axes(found: Axes, top: int = 8, title: str = "Nats per axis and noise level") -> Plot:
    "The `top` axes of a ranking by `guidance.axes`, as areas over log gamma, and the cross term."
    n, step = require_int(top, "top"), float(found.u[1] - found.u[0])
    styles = [(colour, line) for line in ("-", "--", ":") for colour in range(7)]
    with matplotlib.style.context("scoreae.paper"):
        fig = Plot(figsize=(6, 3))
        ax = fig.subplots()
        for row, (colour, line) in zip(found.table[:n], styles, strict=False):
            name, y = f"axis {row['axis']}: {row['nats']:.2f}", found.density[row["axis"]]
            ax.plot(found.u, y, line, color=f"C{colour}", label=name)
        ax.plot(found.u, found.cross, "-.", color="0.5", lw=1, label=f"cross: {float(found.cross.sum()) * step:.2f}")
        ax.set(xlabel=r"$\log\gamma$", ylabel="nats per unit", title=title)
        fig.legend(title="nats", fontsize=8, loc="outside right upper")
    return fig


# %%
u = torch.linspace(-8, 8, 33)
bumps = torch.stack([torch.exp(-((u - m) ** 2) / 4) for m in (-2.0, 0.0, 3.0)])
table = [{"axis": j, "nats": float(bumps[j].sum() * 0.5)} for j in range(3)]
fig = plot_axes(Axes(table, u, bumps, 0.02 * torch.ones(33)), top=2, title="")
names = [line.get_label() for line in fig.axes[0].lines]
test_eq(names, ["axis 0: 3.54", "axis 1: 3.54", "cross: 0.33"])

# %%
#| label: fig-axes
#| fig-cap: 'An invented ranking of three axes, of which the first two are drawn, and an invented cross term. The legend has the area under each curve, in nats.'
#| fig-alt: 'A line chart of nats per unit against log gamma from -8 to 8. Two solid bumps of equal height, around -2 and around 0, and a flat broken grey line near zero.'
fig


# %% [markdown]
# ## Losses

# %%
#| exports
def plot_losses(fits: dict[str, Fit], title: str = "Training loss, relative to its first value") -> Plot:
    "Training losses of several fits on a logarithmic axis, each divided by its first value: their units differ."
    with matplotlib.style.context("scoreae.paper"):
        fig = Plot(figsize=(6, 2.8))
        ax = fig.subplots()
        for (name, run), style in zip(fits.items(), ["-", "--", "-.", ":"] * len(fits), strict=False):
            losses = [h["loss"] for h in run.history]
            if losses: ax.plot([h["step"] for h in run.history], [v / losses[0] for v in losses], style, label=name)
        ax.set(xlabel="step", ylabel="loss / first loss", yscale="log", title=title)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        if ax.lines: ax.legend()
    return fig


# %%
#| label: fig-losses
#| fig-cap: 'An invented pair of losses, each divided by its first value, on a logarithmic axis.'
#| fig-alt: 'A line chart of the loss divided by its first value, on a logarithmic axis, against the step. Both curves begin at 1; one, solid, falls to about 0.23 and the other, broken, to about 0.15.'
fake = [{"step": s, "loss": 50 / s**0.5} for s in range(20, 400, 20)]
steeper = [{**h, "loss": h["loss"] ** 1.3} for h in fake]
fits = {"one": Fit(400, 1.0, 64, fake), "another": Fit(400, 1.0, 64, steeper)}
plot_losses(fits, title="")

# %% [markdown]
# ## The report
#
# One HTML file with its figures inside (as PNG), with nothing fetched from elsewhere; the only script is the line of a slider ([Sliders](45_sliders.ipynb)). It is written in one step: a reader never sees half of it.

# %%
#| exports
STYLE = """
body{font:16px/1.55 system-ui,sans-serif;color:#1a1a1a;max-width:72rem;margin:2rem auto;padding:0 1.2rem}
h1{font-size:1.7rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin:2.2rem 0 .4rem}
p{max-width:48rem}img{max-width:100%;display:block;margin:.6rem 0}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}
th:first-child,td:first-child{text-align:left}footer{color:#666;font-size:.85rem;margin-top:3rem}
"""


def html_table(rows: Sequence[dict]) -> str:
    "Rows (one dictionary each) as an HTML table; missing entries are left empty."
    names = columns(rows)
    line = lambda tag, cells: "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"
    body = "".join(line("td", [row.get(k, "") for k in names]) for row in rows)
    return f"<table>{line('th', names)}{body}</table>"


def html_figure(fig: Plot, alt: str) -> str:
    "A figure as an <img> element that holds its own PNG data, at twice the screen resolution."
    width, pixels = int(fig.get_size_inches()[0] * 100), base64.b64encode(fig.png(200)).decode()
    return f'<img alt="{html.escape(alt)}" width="{width}" src="data:image/png;base64,{pixels}">'


def html_content(content, alt: str) -> str:
    "What a section of a report shows: a figure, something that shows itself as HTML or several of it, or rows."
    if isinstance(content, Plot): return html_figure(content, alt)
    several = content if isinstance(content, Sequence) else [content]
    shows = several and all(hasattr(c, "_repr_html_") for c in several)
    return "".join(c._repr_html_() for c in several) if shows else html_table(several)


def write_report(file: str | os.PathLike, title: str, intro: str,
                 sections: Sequence[tuple], note: str = "") -> None:
    "Write a self-contained HTML page: sections of (heading, text, figure, rows of a table, or `Strip`s)."
    parts = [f"<h1>{html.escape(title)}</h1><p>{html.escape(intro)}</p>"]
    for heading, text, content in sections:
        body = html_content(content, heading)
        parts.append(f"<h2>{html.escape(heading)}</h2><p>{html.escape(text)}</p>{body}")
    meta = "<meta charset=utf-8><meta name=viewport content='width=device-width'>"
    head = f"<!doctype html><html lang=en>{meta}<title>{html.escape(title)}</title><style>{STYLE}</style>"
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    page = head + "".join(parts) + f"<footer>{html.escape(note)}</footer></html>\n"
    write_atomic(Path(file), page.encode())


# %%
sections = [("Rows", "Two.", fig), ("Table", "One.", [{"model": "PCA", "MSE": 0.1}])]
with tempfile.TemporaryDirectory() as folder:
    write_report(f"{folder}/r.html", "A <title>", "Text.", sections)
    page = Path(folder, "r.html").read_text()
test_eq(page.count("data:image/png;base64,"), 1)
assert "A &lt;title&gt;" in page and "<td>PCA</td>" in page
assert "http:" not in page and "https:" not in page and "<script" not in page

# %% [markdown]
# ## What can go wrong
#
# * **Traversing far outside the prior.** Beyond two or three deviations the decoder has never been asked; what it shows there is invention.
# * **Comparing loss curves of different models.** Their losses have different units; only shapes can be compared. Bounds are in the table.
