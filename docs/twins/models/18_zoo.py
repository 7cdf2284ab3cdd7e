# %% [markdown]
# # The zoo
#
# > All models in one table, made by name, and one function that loads whichever was saved.

# %% [markdown]
# Which models are there to compare, and where do they stand before any has learned a thing? A finding is what training adds to that, and a fair table has to begin with it.
#
# A model of the zoo is a class and, for some, a setting of it that deserves its own line in a table. (DBAE has a stochastic encoder and a small rate, as in its paper's theory; DBAE-d is the deterministic one.) Comparisons ([The contest](../commands/51_contest.ipynb)) go through this list, so a model that is added here is compared everywhere. A saved model names its class; `load` finds it and hands over to it.

# %%
#| default_exp models.zoo

# %%
#| exports
import inspect
import os
from collections.abc import Sequence

from scoreae.core.checks import require, require_choice
from scoreae.models.baselines import AE, PCA, TCVAE, VAE, RandomEncoder
from scoreae.models.contract import Autoencoder, read_model
from scoreae.models.dbae import DBAE
from scoreae.models.diffae import DiffAE
from scoreae.models.sami import SAMI

# %%
#| hide
import json
import tempfile
from pathlib import Path

import torch
from fastcore.test import expect_fail, test_eq
from sklearn.datasets import load_digits

from scoreae.core.checks import sqnorm
from scoreae.core.pages import Table

# %% [markdown]
# ## By name

# %%
#| exports
VARIANTS: dict[str, tuple[type[Autoencoder], dict]] = {
    "PCA": (PCA, {}),
    "AE": (AE, {}),
    "random encoder": (RandomEncoder, {}),
    "VAE": (VAE, {}),
    "β-TCVAE": (TCVAE, {}),
    "DiffAE": (DiffAE, {}),
    "DiffAE, DBAE's weighting": (DiffAE, {"weighting": "dbae"}),
    "SAMI": (SAMI, {}),
    "SAMI, told level": (SAMI, {"time_conditioned": True}),
    "DBAE-d": (DBAE, {}),
    "DBAE": (DBAE, {"stochastic": True, "kl_weight": 0.1}),
}
MODELS = tuple(dict.fromkeys(kind for kind, _ in VARIANTS.values()))


def make(name: str, shape: Sequence[int], z_dim: int, **kw) -> Autoencoder:
    "A new model of the zoo for images (C, H, W) and codes of `z_dim`; keywords that only others know are left out."
    require_choice(name, "name", tuple(VARIANTS))
    kind, setting = VARIANTS[name]
    options = {c: set(inspect.signature(c).parameters) - {"shape", "z_dim"} for c in MODELS}
    for k in kw: require_choice(k, "kw", sorted(set.union(*options.values())))
    return kind(shape, z_dim, **{**setting, **{k: v for k, v in kw.items() if k in options[kind]}})


# %%
torch.manual_seed(0)
zoo = {name: make(name, (1, 8, 8), 4, width=8) for name in VARIANTS}
rated = make("DBAE", (1, 8, 8), 4, width=8, kl_weight=0.5)
test_eq(rated.kl_weight, 0.5)  # a keyword overrides a setting
weights = {k: sum(p.numel() for p in m.parameters()) for k, m in zoo.items()}
Table({k: {"class": type(m).__name__, "parameters": f"{weights[k]:,}"}
       for k, m in zoo.items()}, "name")

# %%
with expect_fail(ValueError, contains="kw: expected one of 'anneal', 'begin'"):
    make("AE", (1, 8, 8), 4, widht=8)
with expect_fail(ValueError, contains="name: expected one of 'PCA', 'AE'"):
    make("GAN", (1, 8, 8), 4)


# %% [markdown]
# ## From a folder

# %%
#| exports
def load(folder: str | os.PathLike, **given) -> Autoencoder:
    """The model saved in `folder`, of whichever class it is, on the CPU; `ValueError` if there is none, or damage.

    `given`: arguments that could not be saved, like a network of your own (`encoder=...`).
    """
    config, _ = read_model(folder)
    kinds, kind = {c.__name__: c for c in MODELS}, config["class"]
    require(kind in kinds, "folder", f"a saved {kind} in {folder}", "a model of this library: " + ", ".join(kinds))
    return kinds[kind].load(folder, **given)


# %% [markdown]
# Each model, saved and loaded, decodes to the same image, bit for bit. Damage is found and named: the weights carry a checksum, and nothing is built from a file that does not match it.

# %%
with tempfile.TemporaryDirectory() as folder:
    for model in zoo.values():
        z = torch.randn(2, 4)
        model.save(folder)
        again = load(folder)
        test_eq((type(again), again.config), (type(model), model.config))
        test_eq(again.decode(z, steps=2), model.decode(z, steps=2))
    test_eq(len(list(Path(folder).iterdir())), 2)  # each replaced the one before

# %%
#| include: false
with tempfile.TemporaryDirectory() as tmp:
    model.save(f"{tmp}/m")
    weights = next(Path(tmp, "m").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    with expect_fail(ValueError, contains="damaged weights"): load(f"{tmp}/m")
    weights.unlink()
    with expect_fail(ValueError, contains="FileNotFoundError"): load(f"{tmp}/m")
    config = json.loads(Path(tmp, "m", "config.json").read_text())
    Path(tmp, "m", "config.json").write_text(json.dumps({**config, "format": 99}))
    with expect_fail(ValueError, contains="format 99"): load(f"{tmp}/m")

# %% [markdown]
# A network of your own cannot be written to JSON. Its weights are saved; the network itself has to be given again.

# %%
linear = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8))
own = make("SAMI", (1, 8, 8), 4, width=8, encoder=linear())
with tempfile.TemporaryDirectory() as folder:
    own.save(folder)
    again = load(folder, encoder=linear())
test_eq(again.decode(torch.ones(1, 4), steps=2), own.decode(torch.ones(1, 4), steps=2))

# %%
#| include: false
with tempfile.TemporaryDirectory() as tmp:
    own.save(tmp)
    with expect_fail(ValueError, contains="as in load(folder, encoder=...)"): load(tmp)

# %% [markdown]
# ## Before the first step
#
# Every model but PCA and the random encoder begins as the Gaussian of its images ([The contract](13_contract.ipynb)). For Gaussian images, the point of a code is their mean given the code ([Samplers](../foundations/08_samplers.ipynb)), and for a code of principal components that is PCA. So, with networks that say nothing yet, all kinds of models, with or without a walk, must reconstruct like PCA with as many axes. Digits they have not seen, eight axes:

# %%
images = torch.tensor(load_digits().images / 8 - 1, dtype=torch.float32)[:, None]
train, test = images[:1400], images[1500:1700]


def point_error(name, **kw):
    "Mean squared error on [0, 1] of the points of test images, prepared, not trained."
    torch.manual_seed(0)
    m = make(name, (1, 8, 8), 8, width=8, **kw).eval()
    m.prepare(train)
    return sqnorm(m.reconstruct(test) - test).mean().item() / 256


errors = {name: point_error(name) for name in VARIANTS}
for name, error in errors.items():
    if name == "random encoder": continue
    noisy = name in ("VAE", "β-TCVAE", "SAMI", "SAMI, told level", "DBAE")
    assert abs(error / errors["PCA"] - 1) < (0.15 if noisy else 0.10)
assert errors["random encoder"] > 5 * errors["PCA"]
Table({k: f"{v:.4f}" for k, v in errors.items()}, "untrained", "mean squared error")

# %% [markdown]
# Two things follow. A trained model has to beat this table, not zero: an untrained one in it is the control. And a difference between *models* begins where they leave the Gaussian.
#
# ## Exercises
#
# **1.** *Compute.* DBAE-d has 8073 parameters more than DiffAE. Where are they?

# %%
#| code-fold: true
#| code-summary: "Solution"
count = lambda net: sum(v.numel() for v in net.parameters())
dbae, diffae = zoo["DBAE-d"], zoo["DiffAE"]
decoder = count(dbae.endpoint_net)
stem = dbae.net.stem.weight.numel() - diffae.net.stem.weight.numel()  # x_T as a picture
test_eq(decoder + stem, count(dbae) - count(diffae))
test_eq((decoder, stem), (8001, 72))  # so a fair DiffAE would need a decoder too

# %% [markdown]
# **2.** *Explain.* What do the untrained models reconstruct if they begin at random? Compare with answering the mean image.

# %%
#| code-fold: true
#| code-summary: "Solution"
same = sqnorm(test - train.mean(0)).mean().item() / 256
for name in ("AE", "VAE", "DiffAE", "DBAE-d"):
    error = point_error(name, begin="random")  # nothing of the image gets through,
    assert error > same > 2 * errors["PCA"]  # and not even the mean is known


# %% [markdown]
# **3.** *Extend.* Write an autoencoder of your own that decodes into $[-1,1]$ by a `tanh`. Which part of this page does it get for free, and which not?

# %%
#| code-fold: true
#| code-summary: "Solution"
class Bounded(AE):
    def picture(self, z): return torch.tanh(super().picture(z))


mine, z = Bounded((1, 8, 8), 4, width=8).eval(), torch.randn(2, 4)
with tempfile.TemporaryDirectory() as folder:
    mine.save(folder)
    test_eq(Bounded.load(folder).decode(z), mine.decode(z))  # its class can load it,
    with expect_fail(ValueError, contains="a saved Bounded"): load(folder)  # not `load`

# %% [markdown]
# ## What can go wrong
#
# * **A class of your own.** `load` knows the library's models only; load yours with its own `YourModel.load(folder)`.
# * **Moving weights between models.** The configuration is part of the model: constants of the preconditioning, the prior and the path are in the same file as the weights.
