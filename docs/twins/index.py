# %% [markdown]
# # scoreae
#
# > Score-based autoencoders: representation learning with diffusion models, every model under one bound.

# %% [markdown]
# A **score-based autoencoder** turns an image into a short code $z$, and turns the code back into an image with a diffusion model. There is no decoder in the usual sense: decoding is *denoising that knows the code*. This repository implements two recent ones, beside the models that they should be compared with:
#
# * **SAMI** [@lyo2025sami]: the encoder itself guides an unconditional denoiser, $\nabla\log p(x_t|z)=\nabla\log p(x_t)+\nabla\log q(z|x_t)$;
# * **DBAE** [@kim2025dbae]: the end of a diffusion bridge is decoded from the code, so that the walk back starts at an image of the code, not at noise.
#
# It is a tutorial, a package and a site made from the same notebooks. The tutorial derives score matching, Doob's $h$-transform and the evidence bound step by step, and *checks each equation in a cell*. The package trains on your images. Every model is measured under the same bound on $\log p(x)$, in **nats**: units of information to the base $e$ (one nat is 1.44 bits). So models with different losses stand on one axis.
#
# ## Four choices make a model
#
# | piece | what it is | shared? |
# |---|---|---|
# | **path** | how noise is mixed in: $x_t=a_t\,x_T+b_t\,x_0+c_t\,\varepsilon$; a diffusion has $a_t=0$ | one object |
# | **integral** | the bound on $\log p(x)$: squared error of the estimate $\hat x_0$, integrated over signal-to-noise ratio | one function |
# | **sampler** | one update from $t$ to $s<t$; two numbers choose ODE or SDE, first or second order | one function |
# | **how z gets in** | the estimate $\hat x_0(x_t,t,z)$ | **this is the model** |
#
# | model | estimate $\hat x_0(x_t,t,z)$ | path |
# |---|---|---|
# | PCA, AE, $\beta$-VAE, $\beta$-TCVAE | $\mathrm{dec}(z)$, which never looks at $x_t$ | none needed |
# | DiffAE [@preechakul2022diffae] | $x_\theta(x_t,t,z)$ | diffusion |
# | SAMI | $x_\theta(x_t,t)+\frac{c_t^2}{b_t}\nabla_{x_t}\log q_\phi(z\mid x_t)$ | diffusion |
# | DBAE | $x_\theta(x_t,t,x_T,z)$ with $x_T=\mathrm{dec}_\psi(z)$ | bridge, pinned at $x_T$ |

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
#
# ## Use

# %%
import torch

import scoreae as sa

# %%
#| hide
torch.set_num_threads(1)

# %%
torch.manual_seed(0)  # weights start from torch's global state
x = sa.data.digits("train")                         # (N, C, H, W) in [-1, 1]
model = sa.DBAE(shape=(1, 8, 8), z_dim=8, width=16, stochastic=True, kl_weight=0.1)
sa.fit(model, x, steps=200, lr=2e-3, progress=False)

x_test, y_test = sa.data.digits("test", labels=True)
a, b = x_test[y_test == 0][0], x_test[y_test == 7][0]
z = model.encode(x_test)                            # (N, 8)
point = model.reconstruct(x_test)                   # one image per code
draw = model.reconstruct(x_test,
                         mode="sample")     # a draw of what the code leaves open
new = model.sample(12)                              # codes from the fitted prior
line = model.interpolate(a, b, n=12)                # from a nought to a seven
model.bound(x_test, levels=17)

# %% [markdown]
# After 200 steps, on held-out digits (`make demo` trains longer and shows SAMI beside it):

# %%
#| hide
from pathlib import Path

from IPython.display import display

from scoreae.use.pictures import plot_rows

# %%
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
# ## One picture per model
#
# Four models for 8×8 digits lie in `weights/`: 3000 training steps each, 12 numbers per code, the same encoder, a diffusion of codes as prior. Each picture: held-out images; what the model makes of their codes; a line between the codes of two of them; new images.

# %%
#| echo: false
weights = Path("weights") if Path("weights").exists() else Path("../weights")
for name, title in {"ae": "AE", "diffae": "DiffAE", "sami": "SAMI (told the level)",
                    "dbae": "DBAE"}.items():
    m = sa.load(weights / f"digits-{name}")
    rows = {"image": x_test[:12], "from its code": m.reconstruct(x_test[:12], steps=25)}
    rows |= {"from 0 to 7": m.interpolate(a, b, n=12, steps=25), "new": m.sample(12)}
    display(plot_rows(rows, title))

# %% [markdown]
# ## Where to start
#
# * **To learn**: [Checks](core/90_checks.ipynb), then the pages of the table below in their order; `make lab` opens them as notebooks.
# * **With images of your own**: [train on your own images](own-images.md), which takes one command; then [scikit-learn](scikit-learn.md), [the hub](hub.md), [diffusers](diffusers.md) or [torch.export and ONNX](export.md) for what comes after.
# * **To contribute**: [conventions](conventions.md), [decisions](decisions.md) and [how to review a notebook](twins.md); `make test` checks everything that can be checked.
#
# ## The tutorial
#
# Read it in order; each page stands on those before it, and ends with what can go wrong.
#
# | page | what it shows |
# |---|---|
# | [Core](core/90_checks.ipynb) | shapes, seeds and errors |
# | [Paths](foundations/02_paths.ipynb) | a linear SDE is its log-SNR; pinning its end subtracts a constant from the SNR |
# | [The oracle](foundations/03_worlds.ipynb) | worlds in which every answer is known, against which all else is tested |
# | [Scores](foundations/04_scores.ipynb) | explicit, implicit and denoising score matching; parametrisations; preconditioning |
# | [Bridges](foundations/05_bridges.ipynb) | Doob's $h$-transform; why a bridge is a diffusion in disguise |
# | [Bounds](foundations/06_bounds.ipynb), [Gaps](foundations/07_gaps.ipynb) | one integral bounds every model; what its gap consists of |
# | [Samplers](foundations/08_samplers.ipynb) | one update; orders measured; point and sample |
# | [Networks](models/10_networks.ipynb), [the contract](models/13_contract.ipynb), [Priors](models/12_priors.ipynb), [the zoo](models/18_zoo.ipynb) | the parts of a model, and how models are loaded |
# | [SAMI](models/14_sami.ipynb), [DBAE](models/15_dbae.ipynb), [DiffAE](models/16_diffae.ipynb), [Baselines](models/17_baselines.ipynb) | the models |
# | [Files](images/20_files.ipynb), [rendered images](images/21_rendered.ipynb), [Sets of images](images/22_sets.ipynb) | images of your own, images with known factors, public sets |
# | [Fidelity](measures/30_reconstruction.ipynb), [Distributions](measures/31_distributions.ipynb), [Disentanglement](measures/32_disentanglement.ipynb), [Straightness](measures/33_straightness.ipynb), [Evaluation](measures/34_evaluation.ipynb) | what is measured, and how |
# | [Linear codes](foundations/09_gaussians.ipynb), [Beginnings](sami_claims/60_beginnings.ipynb) | what noisy images say about principal components; what it is worth to begin there |
# | [Denoisers from elsewhere](models/11_pretrained.ipynb), [SAMI on a frozen one](sami_claims/66_frozen_denoiser.ipynb) | a representation read out of a trained DDPM |
# | [Edits](use/42_edits.ipynb), [semantic axes](use/43_guidance.ipynb) | attributes, lines between images; which axis says how many nats at which noise level |
# | [Training](use/41_training.ipynb), [feeding](images/23_feeding.ipynb), [Runs](use/40_runs.ipynb), [own images](together/81_short_training.ipynb) | a loop that resumes bit for bit, on data larger than memory; from a folder to a slider |
# | [Looking](use/44_pictures.ipynb), [A run's report](commands/50_reporting.ipynb), [sliders](use/45_sliders.ipynb), [the demo](commands/54_command_line.ipynb), [train by command](commands/52_making.ipynb), [use by command](commands/53_applying.ipynb), [other libraries](use/46_elsewhere.ipynb) | use |
# | [Why SAMI disentangles](sami_claims/61_why_sami_disentangles.ipynb), [Disks](sami_claims/63_disks.ipynb), [straight videos](sami_claims/65_straight_videos.ipynb), [natural images](sami_claims/64_natural_images.ipynb), [what the rate's weight buys](sami_claims/62_what_beta_buys.ipynb) | SAMI's claims, derived and tested |
# | [DBAE's theorems](dbae_claims/70_theorems.ipynb), [the information split](dbae_claims/71_information_split.ipynb), [few steps](dbae_claims/72_few_steps.ipynb), [independent axes](dbae_claims/73_independent_axes.ipynb) | DBAE's claims, derived and tested |
# | [Head to head](commands/51_contest.ipynb) | all models, trained alike and asked the same questions |
#
# The symbols are on one page, [notation](notation.md); units, shapes and errors on [conventions](conventions.md); why things are as they are, on [decisions](decisions.md); numbers with the commands that made them, on [results](results.md), of [the contest](results-fashion-mnist.md), [SAMI](results-sami.md) and [DBAE](results-dbae.md).
#
# ## Licence
#
# Apache-2.0. All code is written from the mathematics.
