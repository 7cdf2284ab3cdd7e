# %% [markdown]
# # scoreae
#
# > Score-based autoencoders: representation learning with diffusion models, every model under one bound.

# %%
#| hide
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import scoreae as sa
from scoreae.use.pictures import plot_rows
from scoreae.use.sliders import axis_strip

# %%
#| hide
torch.set_num_threads(1)
root = Path("..") if Path("../weights").exists() else Path()


def strip(name, side):
    "Images that lie side by side in one of the page's pictures."
    levels = torch.from_numpy(np.array(Image.open(root / f"nbs/assets/{name}.png")))
    levels = levels.reshape(side, -1, side, levels.shape[2] if levels.ndim == 3 else 1)
    return sa.data.to_float(levels.permute(1, 3, 0, 2).contiguous())


photos, held_out = strip("photos", 32), strip("clothes", 28)
colour, clothes = (sa.load(root / f"weights/{n}-dbae")
                   for n in ("photographs", "fashion28"))

# %%
#| label: fig-home
#| fig-cap: 'Eight photographs that the model never saw, and what it makes of the 128 numbers of each code (points): a DBAE, begun as the Gaussian of other photographs and trained for a minute on two cores.'
#| fig-alt: 'Two rows of eight small colour photographs: a face, an astronaut, a cat and its eye, two cups of coffee, two rockets; the second row repeats the first, softer.'
#| echo: false
decoded = colour.reconstruct(photos, steps=25)
plot_rows({"image": photos, "from its code": decoded}, size=0.85)

# %% [markdown]
# **An autoencoder whose decoder is a diffusion model: an image becomes a short code, and the code an image again by denoising that knows the code.** Derived, checked equation by equation, measured in nats, ready for your images.
#
# ::: {.ways}
# [**Learn** how it works, from noise to codes](tutorial.md) [**Train** on your own images, with one command](own-images.md) [**Results** of all models under one bound](results.md)
# :::

# %%
#| echo: false
axis_strip(clothes, held_out[:6], 9, size=100,
           label="Pull: one axis of the code, from -2 to 2 standard deviations")

# %% [markdown]
# ## Four choices make a model
#
# | piece | what it is | shared? |
# |---|---|---|
# | **path** | how noise is mixed in: $x_t=a_t\,x_T+b_t\,x_0+c_t\,\varepsilon$; a diffusion has $a_t=0$ | one object |
# | **integral** | the bound on $\log p(x)$: squared error of the estimate $\hat x_0$, integrated over signal-to-noise ratio | one function |
# | **sampler** | one update from $t$ to $s<t$; two numbers choose ODE or SDE, first or second order | one function |
# | **how z gets in** | the estimate $\hat x_0(x_t,t,z)$ | **this is the model** |
#
# So a model is its estimate, and the path that it walks:
#
# | model | estimate $\hat x_0(x_t,t,z)$ | path |
# |---|---|---|
# | PCA, AE, $\beta$-VAE, $\beta$-TCVAE | $\mathrm{dec}(z)$, which never looks at $x_t$ | none needed |
# | DiffAE [@preechakul2022diffae] | $x_\theta(x_t,t,z)$ | diffusion |
# | SAMI | $x_\theta(x_t,t)+\frac{c_t^2}{b_t}\nabla_{x_t}\log q_\phi(z\mid x_t)$ | diffusion |
# | DBAE | $x_\theta(x_t,t,x_T,z)$ with $x_T=\mathrm{dec}_\psi(z)$ | bridge, pinned at $x_T$ |

# %% [markdown]
# This repository implements two recent models of this kind, beside those that they should be compared with:
#
# * **SAMI** [@lyo2025sami]: the encoder itself guides an unconditional denoiser, $\nabla\log p(x_t|z)=\nabla\log p(x_t)+\nabla\log q(z|x_t)$;
# * **DBAE** [@kim2025dbae]: the end of a diffusion bridge is decoded from the code, so that the walk back starts at an image of the code, not at noise.
#
# It is a tutorial, a package and a site made from the same notebooks. The tutorial derives score matching, Doob's $h$-transform and the evidence bound step by step, and *checks each equation in a cell*. Every model is measured under the same bound on $\log p(x)$, in **nats**: units of information to the base $e$ (one nat is 1.44 bits). So models with different losses stand on one axis.

# %% [markdown]
# ## Install and see
#
# With Python 3.11 to 3.13, git and make:
#
# ```bash
# git clone https://github.com/scoreae/scoreae && cd scoreae
# make demo    # trains SAMI and DBAE on real digits in minutes; writes runs/demo/report.html
# make test    # checks every derivation of the tutorial, the package and the pages
# make lab     # opens the notebooks in JupyterLab
# ```
#
# `make help` lists all targets. Without make, the same by hand:
#
# ```bash
# python3 -m venv .venv
# .venv/bin/pip install -c constraints.txt -e '.[dev]'
# .venv/bin/scoreae demo
# .venv/bin/python -m pytest
# .venv/bin/jupyter lab nbs
# ```

# %% [markdown]
# ## Use

# %%
import torch

import scoreae as sa

# %%
torch.manual_seed(0)                                # weights start from torch's state
x = sa.data.digits("train")                         # (N, C, H, W) in [-1, 1]
model = sa.DBAE((1, 8, 8), z_dim=8, width=16, stochastic=True, kl_weight=0.1)
sa.fit(model, x, steps=200, lr=2e-3, progress=False)

x_test, y_test = sa.data.digits("test", labels=True)
a, b = x_test[y_test == 0][0], x_test[y_test == 7][0]
z = model.encode(x_test)                            # (N, 8)
point = model.reconstruct(x_test)                   # one image per code
draw = model.reconstruct(x_test, mode="sample")     # a draw of the rest
new = model.sample(12)                              # codes from the fitted prior
line = model.interpolate(a, b, n=12)                # from a nought to a seven
model.bound(x_test, levels=17)

# %% [markdown]
# The bound is for an image of 8×8 digits that the model has not seen, and says how well this short training does: the uncertainty is that of the mean over 397 images. `make demo` trains longer and shows SAMI beside it.

# %%
#| label: fig-digits
#| fig-cap: 'After 200 steps, on held-out digits: image, point, draw; then the line from a nought to a seven, and new digits from codes of the prior.'
#| fig-alt: 'Five rows of twelve small grey digits; points are smooth copies of the images, draws a little rougher; the fourth row turns a nought into a seven.'
#| echo: false
plot_rows({"image": x_test[:12], "point": point[:12], "sample": draw[:12],
           "from 0 to 7": line, "new": new})

# %% [markdown]
# Models are saved as safetensors and JSON, `model.save("runs/m")`, and come back with `sa.load("runs/m")`.
#
# With a folder of pictures, of any sizes, no Python is needed (`.venv/bin/scoreae`, or `scoreae` once the environment is active):
#
# ```bash
# scoreae train photos/ --z-dim 32 --minutes 30 --out runs/photos   # a SAMI; or --model dbae, ae, ...
# scoreae train --out runs/photos --resume                          # after a crash, or Ctrl-C
# scoreae encode runs/photos photos/ --out codes.npy
# scoreae reconstruct runs/photos photos/ --out again/
# scoreae explore runs/photos                                       # report.html, and sliders
# ```

# %% [markdown]
# ## Where to start
#
# * **To learn**: the [tutorial](tutorial.md), page by page; `make lab` opens the pages as notebooks.
# * **With images of your own**: [train on your own images](own-images.md), which takes one command; then [scikit-learn](scikit-learn.md), [the hub](hub.md), [diffusers](diffusers.md) or [torch.export and ONNX](export.md) for what comes after.
# * **To look something up**: the [API](api.md), [notation](notation.md), units, shapes and errors in [conventions](conventions.md), reasons in [decisions](decisions.md); numbers with the commands that made them in [results](results.md): of [all models](results-fashion-mnist.md), [SAMI](results-sami.md) and [DBAE](results-dbae.md).
# * **To contribute**: [conventions](conventions.md) and [how to review a notebook](twins.md); `make test` checks everything that can be checked.

# %% [markdown]
# ## Licence
#
# Apache-2.0. All code is written from the mathematics. The photographs above are public-domain samples of scikit-image; the clothes are from Fashion-MNIST [@xiao2017fashion], MIT licence.
