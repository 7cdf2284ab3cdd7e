# %% [markdown]
# # A run's report
#
# > One page about a trained model: what it saw, how it learned, what its code keeps, and which images it holds to be alike.

# %% [markdown]
# A folder with a trained model answers few questions by itself. This page makes the report that every run of `scoreae train` gets: images, losses, reconstructions in both modes, the axes of the code in the order of what they carry, lines between images, samples, and nearest neighbours in code space. It shows that the axes come out in the right order where the order is known, and that neighbours of codes are found.

# %%
#| default_exp commands.reporting

# %%
#| exports
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from scoreae.core.checks import check_images, require, require_int, require_number
from scoreae.models.contract import Autoencoder
from scoreae.use.pictures import Plot, plot_rows, write_report
from scoreae.use.sliders import Strip, axis_strip
from scoreae.use.training import Fit

# %%
#| hide
import tempfile

from fastcore.test import expect_fail, test_eq
from sklearn.neighbors import NearestNeighbors

from scoreae import data
from scoreae.core.pages import paper
from scoreae.models.baselines import AE, PCA, VAE
from scoreae.use.training import fit

# %%
#| hide
paper()


# %% [markdown]
# ## What an axis carries
#
# Take the codes of many images. Along axis $j$ they have a variance $v_j$: of the posterior means, plus the mean variance within a posterior. If the posteriors have standard deviations $s_{ij}$, then knowing the image narrows the axis from $v_j$ to $s_{ij}^2$, which for Gaussians is worth
#
# $$I_j=\mathbb E_i\Big[\tfrac12\log\frac{v_j}{s_{ij}^2}\Big]\ \text{nats}.$$ {#eq-rep-axis}
#
# By Jensen's inequality $I_j\ge 0$, as $v_j\ge\mathbb E_i\,s_{ij}^2$. An axis that the encoder does not use has $s_{ij}^2=v_j$ for all images, and $I_j=0$. A deterministic code has no $s_{ij}$; its axes are ranked by their standard deviation $\sqrt{v_j}$, which says less, since a decoder may magnify a small axis.

# %%
#| exports
def axis_information(model: Autoencoder, x: Tensor) -> tuple[Tensor, str]:
    "What each axis carries of images (N, C, H, W), (z_dim,), and the unit: 'nats', or 'std' for a deterministic code."
    q = model.posterior(x)
    spread = q.mean.double().var(0, correction=0)
    if not bool((q.stddev > 0).all()): return spread.sqrt(), "std"
    within = q.variance.double()
    return 0.5 * ((spread + within.mean(0)).log() - within.log().mean(0)), "nats"


def best_axes(model: Autoencoder, x: Tensor, axes: int) -> list[tuple[int, str]]:
    "The `axes` axes that carry most of images `x`, the first first, each with what it carries, as a label."
    value, unit = axis_information(model, x)
    best = value.argsort(descending=True)[: require_int(axes, "axes")].tolist()
    return [(j, f"axis {j}, {value[j]:.2g} {unit}") for j in best]


def axis_rows(model: Autoencoder, x: Tensor, image: Tensor, axes: int = 8, n: int = 9, span: float = 2.0,
              steps: int = 10) -> dict[str, Tensor]:
    """Rows {axis: (n, C, H, W)} of `image` (C, H, W), moved along the axes that carry most of images `x`.

    Each goes from -`span` to +`span` standard deviations of the prior around the code of `image`.
    """
    check_images(image[None], model.shape, "image")
    best = best_axes(model, x, axes)
    at = torch.linspace(-1, 1, require_int(n, "n")) * require_number(span, "span", 0, above=True)
    z, std = model.encode(image[None]).cpu(), model.prior.std.cpu()
    moved = {j: z + at[:, None] * torch.eye(model.z_dim)[j] * std[j] for j, _ in best}
    return {label: model.decode(moved[j], steps=steps) for j, label in best}


def axis_strips(model: Autoencoder, x: Tensor, images: Tensor, axes: int = 3, n: int = 11, steps: int = 10) -> list[Strip]:
    "Sliders that move `images` (N, C, H, W) along the axes that carry most of images `x`; they need no kernel."
    size = max(72, min(128, model.shape[1]))
    return [axis_strip(model, images, j, n=n, steps=steps, label=k, size=size) for j, k in best_axes(model, x, axes)]


# %% [markdown]
# PCA's axes are ordered already. A variational autoencoder that is trained with a strong rate keeps few axes: those that it gave up carry nothing.

# %%
x, x_test = data.digits(), data.digits("test")
pca = PCA((1, 8, 8), 6)
fit(pca, x)
std, unit = axis_information(pca, x)
test_eq((std.argsort(descending=True).tolist(), unit), (list(range(6)), "std"))
torch.manual_seed(0)
vae = VAE((1, 8, 8), 8, width=8, beta=4.0)
fit(vae, x, steps=400, lr=3e-3, progress=False)
nats, unit = axis_information(vae, x_test)
assert unit == "nats" and nats.min() > -1e-9 and nats.sum() > 1

# %%
#| label: fig-axes
#| fig-cap: 'The four axes of eight that carry most, of a VAE: a held-out digit with its code moved from -2 to 2 standard deviations. The last one, with 0.09 nats, changes the image least.'
#| fig-alt: 'Four rows of nine small grey images that are blurred digits. Along axes 4, 5 and 0 the blur changes its shape from left to right, along axis 7 only a little.'
plot_rows(axis_rows(vae, x_test, x_test[2], axes=4), size=0.58)


# %% [markdown]
# ## Neighbours
#
# Which images does the model hold to be alike? Those whose codes are near. The axes are measured in standard deviations of all codes, so that a large axis does not decide alone.

# %%
#| exports
def neighbours(model: Autoencoder, x: Tensor, query: Tensor, n: int = 8) -> Tensor:
    "Indices (M, n) of those images `x` (N, C, H, W) whose codes are nearest to the codes of `query` (M, C, H, W)."
    z, q = model.encode(x).double(), model.encode(query).double()
    scale = z.std(0).clamp(min=1e-12)
    return torch.cdist(q / scale, z / scale).topk(min(require_int(n, "n"), len(x)), largest=False).indices


def neighbour_rows(model: Autoencoder, x: Tensor, query: Tensor, n: int = 8) -> dict[str, Tensor]:
    "Rows of an image of `query` and its nearest images of `x`, the nearest first."
    found = neighbours(model, x, query, n)
    return {f"image {i}": torch.cat([q[None], x[near]]) for i, (q, near) in enumerate(zip(query, found, strict=True))}


# %% [markdown]
# scikit-learn finds the same neighbours, and an image of the set is its own nearest.

# %%
found, z = neighbours(pca, x, x_test[:5], 4), pca.encode(x)
nearest = NearestNeighbors(n_neighbors=4).fit(z / z.std(0))
other = nearest.kneighbors(pca.encode(x_test[:5]) / z.std(0))[1]
test_eq(found.tolist(), other.tolist())
test_eq(neighbours(pca, x, x[:5], 1)[:, 0].tolist(), [0, 1, 2, 3, 4])
labels = data.digits(labels=True)[1], data.digits("test", labels=True)[1]
alike = (labels[0][neighbours(pca, x, x_test, 1)[:, 0]] == labels[1]).float().mean()
assert alike > 0.9
f"{alike:.1%} of the held-out digits have a nearest neighbour of their own class"

# %%
#| label: fig-near
#| fig-cap: 'Held-out digits (first column), and the eight training digits whose PCA codes are nearest, the nearest first.'
#| fig-alt: 'Four rows of nine small grey images of handwritten digits. Each row begins with a held-out digit; most of the images beside it look like it.'
plot_rows(neighbour_rows(pca, x, x_test[:4]), size=0.65)


# %% [markdown]
# ## Losses of one run
#
# In their own unit, training and held-out. A difference of two such losses means something: both are of the same model.

# %%
#| exports
def plot_fit(run: Fit) -> Plot:
    "The training loss of a run and, if it was measured, the held-out loss."
    import matplotlib.style

    with matplotlib.style.context("scoreae.paper"):
        fig = Plot(figsize=(6, 2.8))
        ax = fig.subplots()
        for name, history, style in (("training", run.history, "-"), ("held out", run.val_history, "o--")):
            if history: ax.plot([h["step"] for h in history], [h["loss"] for h in history], style, ms=3, label=name)
        positive = all(h["loss"] > 0 for h in [*run.history, *run.val_history])
        ax.set(xlabel="step", ylabel="loss", yscale="log" if positive else "linear")
        if run.history: ax.legend()
    return fig


# %% [markdown]
# ## The report

# %%
#| exports
def run_report(file: str | Path, model: Autoencoder, x: Tensor, held_out: Tensor, run: Fit | None = None,
               rows: Sequence[dict] = (), title: str = "", note: str = "", steps: int = 10) -> None:
    """Write the report of a trained model: training images `x`, `held_out` images (N >= 2), its `Fit`, rows of a table.

    One HTML file that asks nothing of the network. `steps` evaluations of the denoiser for every image.
    """
    for name, images in (("x", x), ("held_out", held_out)): check_images(images, model.shape, name)
    require(len(held_out) > 1, "held_out", held_out, "at least two images")
    shown, size = held_out[:10], max(0.55, min(1.0, model.shape[2] / 64))
    both = {"image": shown, **{m: model.reconstruct(shown, m, steps=steps) for m in ("point", "sample")}}
    line = {"line": model.interpolate(held_out[0], held_out[1], n=10, steps=steps)}
    some = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:1000]]
    moved, near = axis_rows(model, some, shown[0], steps=steps), neighbour_rows(model, x, shown[:5], 9)
    figures = [
        ("Images", f"{len(x)} to train on, {len(held_out)} held out.", {"training": x[:10], "held out": shown}),
        ("Reconstructions", "Of held-out images. Point: one image per code. Sample: what the code leaves open.", both),
        ("Axes", "Two standard deviations each way, by what they carry.", moved),
        ("Interpolation", "A straight line between the codes of two held-out images.", line),
        ("Samples", "Codes drawn from the fitted Gaussian prior.", {"samples": model.sample(10, steps=25)}),
        ("Neighbours", "A held-out image, and training images with near codes.", near),
    ]  # fmt: skip
    sections = [(heading, text, plot_rows(r, size=size)) for heading, text, r in figures]
    text = "Held-out images along the axes that carry most: pull a slider."
    sections.insert(2, ("Move", text, axis_strips(model, some, shown[:4], steps=steps)))
    if run and run.history: sections.insert(1, ("Losses", "Of averaged weights where held out.", plot_fit(run)))
    if rows: sections.append(("Numbers", "On held-out images, with one standard error.", list(rows)))
    kind = f"{type(model).__name__}, codes of {model.z_dim} numbers, images of {model.shape}"
    write_report(file, title or kind, f"{kind}, {model.trained.get('steps', 0)} steps.", sections, note)


# %%
torch.manual_seed(0)
ae = AE((1, 8, 8), 8, width=8)
record = fit(ae, x, steps=200, val=x_test, every=50, lr=3e-3, progress=False)
with tempfile.TemporaryDirectory() as room:
    run_report(f"{room}/report.html", ae, x, x_test, record, title="Digits <8>")
    page = Path(room, "report.html").read_text()
test_eq(page.count("data:image/png;base64,"), 7 + 3)  # figures and sliders
assert "Digits &lt;8&gt;" in page and "http" not in page and "<script" not in page

# %%
with expect_fail(ValueError, contains="held_out: expected at least two images"):
    run_report("r", ae, x, x_test[:1])

# %%
#| label: fig-losses
#| fig-cap: 'The losses of a plain autoencoder on a logarithmic axis: both fall, and the held-out one ends slightly above that of training.'
#| fig-alt: 'A line chart of the loss on a logarithmic axis against the step. Training, a solid line, falls from about 27 at step 20 to 5.5 at step 200; held out, a broken line with dots at every fiftieth step, falls from 9 to 6.'
plot_fit(record)

# %% [markdown]
# ## What can go wrong
#
# * **Reading an axis as a factor.** A traversal shows what the decoder does along an axis. Whether one factor of the data lives there is measured in [Disentanglement](../measures/32_disentanglement.ipynb).
# * **Neighbours of a code with noise axes.** Scaling every axis to the same spread also magnifies axes that carry nothing. In a stochastic code, look at their nats first.
