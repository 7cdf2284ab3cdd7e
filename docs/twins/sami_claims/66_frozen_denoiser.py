# %% [markdown]
# # A frozen denoiser
#
# > A DDPM trained by diffusers, saved, loaded and never changed; an encoder that learns to guide it gives images codes.

# %% [markdown]
# A diffusion model has learned what images look like, but it has no code for an image. SAMI's decoder is a guided denoiser ([SAMI](../models/14_sami.ipynb)), so a denoiser that exists can be kept as it is, and only an encoder is trained. This page does it from end to end with a model that is not ours: a small DDPM, trained on digits with diffusers' own classes, saved as a pipeline, loaded, frozen. First the steps, small enough to run here; then the stored results of a longer run.
#
# *Stored trainings on this page are from before models began as [Gaussians](../foundations/09_gaussians.ipynb): a told SAMI began as the linear code, all other networks at random.*

# %%
#| hide
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.utils.logging import disable_progress_bar
from fastcore.test import expect_fail, test_close, test_eq
from torch.nn.functional import mse_loss

from scoreae import data
from scoreae.core.checks import rng
from scoreae.core.pages import Table, paper
from scoreae.models.pretrained import from_diffusers
from scoreae.models.sami import SAMI
from scoreae.models.zoo import load
from scoreae.use.guidance import watch
from scoreae.use.training import fit

# %%
#| hide
paper()
disable_progress_bar()

# %% [markdown]
# ## Somebody else's DDPM
#
# This cell has nothing to do with the library: it is how one trains a DDPM with diffusers [@ho2020ddpm], here for 150 steps, which is enough to see something.

# %%
x, test = data.digits(), data.digits("test")
torch.manual_seed(0)
unet = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1,
                   block_out_channels=(8, 16), down_block_types=("DownBlock2D",) * 2,
                   up_block_types=("UpBlock2D",) * 2, norm_num_groups=4)
scheduler, g = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2"), rng(0)
opt = torch.optim.AdamW(unet.parameters(), lr=4e-3)
for _ in range(150):
    batch = x[torch.randint(len(x), (32,), generator=g)]
    t = torch.randint(1000, (32,), generator=g)
    eps = torch.randn(batch.shape, generator=g)
    loss = mse_loss(unet(scheduler.add_noise(batch, eps, t), t).sample, eps)
    opt.zero_grad()
    loss.backward()
    opt.step()
folder = tempfile.TemporaryDirectory()
DDPMPipeline(unet.eval(), scheduler).save_pretrained(f"{folder.name}/ddpm")
sorted(p.name for p in Path(folder.name, "ddpm").iterdir())

# %% [markdown]
# ## Load, freeze, extract
#
# `from_diffusers` reads the folder: the network, what it predicts, and the table of noise levels, which becomes a path ([Denoisers from elsewhere](../models/11_pretrained.ipynb)). `regime="frozen"` trains the encoder alone. Its loss needs the denoiser's answer but no gradient through it, which should make a step cheaper than one of joint training. The encoder is told the noise level, and begins as the linear code of [Gaussian images](../foundations/09_gaussians.ipynb).

# %%
given = from_diffusers(f"{folder.name}/ddpm")
before = {k: v.clone() for k, v in given.state_dict().items()}
torch.manual_seed(0)
model = SAMI((1, 8, 8), z_dim=8, denoiser=given, regime="frozen", encoder_width=8,
             time_conditioned=True)
record = fit(model, x, steps=15, batch_size=64, lr=4e-3, ema=0.9, log_every=5,
             progress=False)
# not one bit of the DDPM has changed
assert all(torch.equal(v, given.state_dict()[k]) for k, v in before.items())
test_eq(model.encode(test).shape, (len(test), 8))
last, count = record.history[-1], lambda ps: sum(p.numel() for p in ps)
Table({"trained parameters": count(p for p in model.parameters() if p.requires_grad),
       "frozen parameters": count(given.parameters()),
       "error, free (nats per unit of log γ)": last["free"],
       "error, guided (nats per unit of log γ)": last["guided"]}, name="after 15 steps")

# %% [markdown]
# The whole model is saved, the DDPM's weights with it, and needs nothing else to be loaded. A denoiser that is a plain function has no weights to save, and `save` says so.

# %%
model.save(f"{folder.name}/sami")
again = load(f"{folder.name}/sami")
decoded = lambda m: m.decode(m.encode(test[:4]), steps=4)
test_eq(decoded(again), decoded(model))

# %%
#| include: false
plain = SAMI((1, 8, 8), 8, width=8, denoiser=lambda x_t, t: 0 * x_t, path=given.path,
             regime="frozen")
with expect_fail(ValueError, contains="denoiser: expected a module"):
    plain.save(f"{folder.name}/plain")
with expect_fail(ValueError,
                 contains="denoiser: expected one for images of shape (3, 8, 8)"):
    SAMI((3, 8, 8), 8, width=8, denoiser=given, regime="frozen")
folder.cleanup()

# %% [markdown]
# ## A longer run
#
# `python -m bench.claims.frozen` does the same with a larger DDPM, and extracts codes of eight numbers in a tenth of its steps. What a code knows is measured by a linear probe for the digit ([Evaluation](../measures/34_evaluation.ipynb)) on held-out images; beside it a random encoder of the library, and PCA. One seed.

# %%
stored = json.loads(Path("../../bench/claims/frozen.json").read_text())
rows = {r["code"]: r for r in stored["rows"]}
assert all(r["steps"] <= 0.1 * stored["DDPM"]["steps"] for r in rows.values())

# %%
#| label: fig-probe
#| fig-cap: 'Held-out digits that a linear probe of eight numbers gets right, with standard errors; the frozen DDPM has 2000 steps. The codes begun linear are as good as PCA, trained or not; the noise-blind one and the random encoder lie below.'
#| fig-alt: 'Dot plot with error bars of the share of digits right, in per cent, for seven codes. PCA and the three codes begun linear lie at 89 to 90, the told code begun at random at 87, the noise-blind one at 82, the random encoder at 74.'
names = list(rows)[::-1]
right, error = ([rows[k][v] for k in names] for v in ("accuracy (%)", "stderr"))
fig, ax = plt.subplots(figsize=(6.8, 2.6))
ax.errorbar(right, names, xerr=error, fmt="o", capsize=3)
ax.set(xlabel="held-out digits right (%)", xlim=(70, 95));

# %%
levels = stored["gain by level"]
total = {k: {q: sum(v[q]) * (v["u"][1] - v["u"][0]) for q in ("gain", "energy")}
         for k, v in levels.items()}
test_close(total["told, begun linear"]["gain"], 11.5, eps=0.1)
test_close(total["told, begun linear"]["energy"], 11.4, eps=0.1)
test_close(total["told, begun linear, untrained"]["gain"], 3.7, eps=0.1)
test_close(total["told, begun linear, untrained"]["energy"], 12.9, eps=0.1)
for k in ("noise-blind", "told, begun at random"): assert abs(total[k]["gain"]) < 0.1


def row(r):
    "What a code got right, by how much work, and the gain and energy of its guidance."
    nats = total.get(r["code"].removeprefix("SAMI, "), {})
    return {"right (%)": f"{r['accuracy (%)']} ± {r['stderr']}", "steps": r["steps"],
            "CPU (s)": r["CPU seconds"],
            **{f"{k} (nats)": f"{v:z.1f}" for k, v in nats.items()}}


Table({name: row(r) for name, r in rows.items()}, name="code")

# %%
#| label: fig-gain
#| fig-cap: 'Where the guidance takes something off the error of the frozen DDPM, in nats per unit of $\log\gamma$, on held-out images. Training from the linear beginning adds the fine levels; begun at random the encoder gains nothing, told the level or not.'
#| fig-alt: 'Line chart of gain in nats per unit against log gamma from -11 to 9 for five encoders. Begun linear and trained, the curve rises from -5 to a plateau above 1 and falls after 6; with high noise it has the same left side and falls after 0; untrained it peaks at 0.7 near -1 and is small from 2 on. The two begun at random stay at zero.'
fig, ax = plt.subplots(figsize=(6, 3.4))
styles = ("o-", "s--", "^-.", "v:", "d:")
for (name, v), style in zip(levels.items(), styles, strict=True):
    ax.plot(v["u"], v["gain"], style, label=name, ms=4)
ax.axhline(0, color="0.4", lw=1)
ax.set(xlabel=r"$\log\gamma$", ylabel="gain (nats per unit)")
fig.legend(loc="outside upper center", ncols=2);

# %% [markdown]
# What it says. *Begun linear*, the guidance takes 3.7 nats off the error before any training, and is far from exact: its energy is 12.9, for the DDPM's digits are not Gaussian. After 200 steps it takes off 11.5 nats, with an energy of 11.4. Exact guidance would have them equal, but so has any that least squares has given its best strength ([Guidance in use](../use/43_guidance.ipynb)). Nor is all of a gain information: it is measured against *this* denoiser, and the smaller, less trained one of this page lets the untrained code gain 12 (below). Encoders begun at random, told the level or not, gain nothing in that time: their first guidance does harm (below, for the smaller DDPM of this page), which the training has to take away first, and after 200 steps they are silent. That is a small budget: it does not say what longer trainings reach. One seed of all.
#
# The linear probe of the trained code is as good as PCA's, and not distinguishable from that of the code before training (89.2, which *is* PCA's): a linear probe does not see what the code gains in nats. The noise-blind code is below it by more than its error. High noise with a larger $\beta$ takes away the finer half of the gain, and adds next to nothing at coarse levels.

# %%
probes = {k: r["accuracy (%)"] for k, r in rows.items()}
for name in ("told, begun linear", "told, begun linear, untrained"):
    assert abs(probes[f"SAMI, {name}"] - probes["PCA"]) < 2
assert probes["SAMI, noise-blind"] < probes["PCA"] - 5
gain = {k: np.array(v["gain"]) for k, v in levels.items()}
fine, high = (gain[f"told, begun linear{k}"] for k in ("", ", high noise, β = 0.03"))
assert 0.4 < high.sum() / fine.sum() < 0.6 and (high - fine).max() < 0.12
first = {}
kinds = {"noise-blind": {},
         "begun at random": {"time_conditioned": True, "begin": "random"},
         "begun linear": {"time_conditioned": True}}
for name, kw in kinds.items():
    torch.manual_seed(0)
    fresh = SAMI((1, 8, 8), 8, denoiser=given, regime="frozen", encoder_width=16, **kw)
    fresh.eval().prepare(x)
    begun = watch(fresh, test[:200], n=10)
    first[name] = float((begun["gain"] * (begun["u"][1] - begun["u"][0])).sum())
assert first["noise-blind"] < -3
assert first["begun at random"] < -3
assert first["begun linear"] > 2
Table({k: f"{v:.2f}" for k, v in first.items()}, name="before training",
      value="gain (nats)")

# %% [markdown]
# ## What can go wrong
#
# * **Trusting the probe.** An encoder that guides nothing can still be probed with success. Look at the gain first; `guided` and `free` in the history show it during training.
# * **A denoiser in training mode.** Dropout would make the free estimate random. SAMI keeps a frozen denoiser in evaluation mode, also while it trains.
# * **Another data set.** The frozen denoiser's errors on images that it does not know become the encoder's task.
