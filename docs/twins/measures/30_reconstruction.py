# %% [markdown]
# # Reconstruction
#
# > How close a reconstruction is to its image: MSE, PSNR, SSIM and LPIPS, per image, with every convention stated.

# %% [markdown]
# Reconstruction numbers of two papers are often not comparable, because scale, layout or window differ in silence. This page fixes one convention for each of the four usual numbers and proves it against independent code. It also proves two things that are easy to get wrong: a *sample* from an exact posterior must lose 3 dB to the posterior *mean*, and SSIM on a wrong layout is far too high. Images are $(N,C,H,W)$ in $[-1,1]$. All errors are on the $[0,1]$ scale that papers report, and all come *per image*, so that a mean can always be given with its standard error.

# %%
#| default_exp measures.reconstruction

# %%
#| exports
from pathlib import Path

import torch
from torch import Tensor

from scoreae.core.checks import check_images, in_batches, require, require_choice

# %%
#| hide
from functools import partial
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from fastcore.test import expect_fail, test_close, test_eq
from skimage.metrics import (
    mean_squared_error,
    peak_signal_noise_ratio,
    structural_similarity,
)
from sklearn.datasets import load_digits, load_sample_images

from scoreae.core.pages import Table, paper

# %%
#| hide
paper()


# %% [markdown]
# ## Squared error and PSNR
#
# An image $x$ in $[-1,1]$ is $(x+1)/2$ in $[0,1]$. The shift drops out of a difference and the factor is squared, so with $d$ values per image
#
# $$\mathrm{MSE}(x,y)=\frac1d\Big\|\frac{x-y}2\Big\|^2=\frac{\|x-y\|^2}{4d},\qquad \mathrm{PSNR}(x,y)=-10\log_{10}\mathrm{MSE}(x,y)\ \text{dB},$$ {#eq-psnr}
#
# the second being $10\log_{10}(L^2/\mathrm{MSE})$ with the peak $L=1$.

# %%
#| exports
def mse(x: Tensor, y: Tensor) -> Tensor:
    "Mean squared error of every image on the [0, 1] scale, (N,): two batches (N, C, H, W) in [-1, 1]."
    check_images(x, name="x")
    check_images(y, tuple(x.shape[1:]), name="y")
    require(len(y) == len(x), "y", y, f"{len(x)} images, as many as x")
    return (x.double() - y.double()).flatten(1).square().mean(1) / 4


def psnr(x: Tensor, y: Tensor) -> Tensor:
    "Peak signal-to-noise ratio of every image in dB, -10 log10 of `mse`, (N,); infinite for equal images."
    return -10 * torch.log10(mse(x, y))


# %% [markdown]
# Two colour photographs, $128\times128$, each once blurred by a $5\times5$ box and once with noise. Both numbers agree with scikit-image.

# %%
photos = np.stack([photo[100:228, 200:328] for photo in load_sample_images().images])
photos = torch.tensor(photos).permute(0, 3, 1, 2).double() / 127.5 - 1
box = torch.full((3, 1, 5, 5), 1 / 25, dtype=torch.float64)
blurred = F.conv2d(F.pad(photos, (2, 2, 2, 2), mode="reflect"), box, groups=3)
g = torch.Generator().manual_seed(0)
noise = torch.randn(photos.shape, generator=g, dtype=torch.float64)
noisy = (photos + 0.1 * noise).clamp(-1, 1)


def unit(v): return ((v + 1) / 2).double().numpy()
def each(v): return dict(zip(("temple", "flower"), v.tolist(), strict=True))


for y in (blurred, noisy):
    for i, (p, q) in enumerate(zip(unit(photos), unit(y), strict=True)):
        test_close(mse(photos, y)[i].item(), mean_squared_error(p, q), eps=1e-12)
        peer = peak_signal_noise_ratio(p, q, data_range=1)
        test_close(psnr(photos, y)[i].item(), peer, eps=1e-9)
test_eq(psnr(photos, photos).isposinf().all().item(), True)
Table({"blurred": each(psnr(photos, blurred)), "noisy": each(psnr(photos, noisy))},
      name="PSNR [dB]", digits=4)

# %%
with expect_fail(ValueError, contains="y: expected images (N, 3, 128, 128)"):
    mse(photos, blurred[:, :1])
with expect_fail(ValueError, contains="y: expected 2 images"): mse(photos, blurred[:1])

# %% [markdown]
# ## A sample loses 3 dB to the mean
#
# A code $z$ leaves a posterior $p(x|z)$. A decoder can answer with its mean $m=\mathbb E[x|z]$, or with a sample $x'\sim p(x|z)$, which looks sharper. Given $z$, the true image $x$ is itself a draw from $p(x|z)$, independent of $x'$. Add and subtract $m$:
#
# $$\mathbb E\|x-x'\|^2=\mathbb E\|x-m\|^2+\mathbb E\|m-x'\|^2+2\,\mathbb E\big[(x-m)\cdot(m-x')\big]=2\,\mathbb E\|x-m\|^2 .$$ {#eq-twice}
#
# The cross term vanishes because, given $z$, the two factors are independent with mean zero. The first two terms are equal because $x$ and $x'$ have the same law. So a *perfect* sampler has twice the squared error of the perfect point estimate of the same code, that is $10\log_{10}2\approx3.01$ dB less. Neither is better: they answer different questions, and only numbers of one kind may be compared.

# %%
g = torch.Generator().manual_seed(0)
m = 0.4 * torch.randn(500, 1, 16, 16, generator=g).clamp(-1, 1)  # any: it drops out
truth, drawn = (m + 0.1 * torch.randn(m.shape, generator=g) for _ in range(2))
point, draw = mse(truth, m).mean(), mse(truth, drawn).mean()
test_close((draw / point).item(), 2.0, eps=0.02)
f"a sample loses {10 * torch.log10(draw / point):.2f} dB to the mean"


# %% [markdown]
# ## SSIM
#
# The structural similarity [@wang2004ssim] compares two images $x,y$ on $[0,1]$ window by window. With weights $w$ that sum to one over a window, let $\mu_x,\mu_y$ be the weighted means, $s_x^2,s_y^2$ the weighted variances and $s_{xy}$ the weighted covariance. Then
#
# $$\mathrm{SSIM}=\frac{2\mu_x\mu_y+C_1}{\mu_x^2+\mu_y^2+C_1}\cdot\frac{2s_{xy}+C_2}{s_x^2+s_y^2+C_2},\qquad C_1=0.01^2,\quad C_2=0.03^2.$$ {#eq-ssim}
#
# The first factor compares brightness; the second compares contrast and structure. Both are at most one, and $C_1,C_2$ only prevent $0/0$. The conventions here are those of the paper:
#
# * a Gaussian window of $11\times11$ pixels with a standard deviation of 1.5 pixels;
# * the average runs over the windows that lie *inside* the image (the borders of a padded image would enter otherwise), then over channels;
# * a data range of one.
#
# Images with a side below 11 have no such window. For them the window shrinks to the largest odd width that fits, and its Gaussian in proportion. Such a number is comparable at the same image size only. The arithmetic is that of [torchmetrics](https://lightning.ai/docs/torchmetrics/stable/), in float64.

# %%
#| exports
def _window(height: int, width: int) -> tuple[int, float]:
    "Width and standard deviation of the SSIM window: 11 and 1.5, or the largest odd width that fits, in proportion."
    w = min(11, height, width)
    w -= 1 - w % 2
    return w, 1.5 * w / 11


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of every image, (N,), at most 1 (Wang et al. 2004): batches (N, C, H, W) in [-1, 1].

    C is 1 or 3. Gaussian window 11, sigma 1.5, windows inside the image, data range 1 on the [0, 1] scale; smaller
    windows for sides below 11, at least 3. Needs torchmetrics.
    """
    mse(x, y)  # the same checks
    require(x.shape[1] in (1, 3), "x", x, "channels first: (N, 1, H, W) or (N, 3, H, W)")
    require(min(x.shape[2:]) >= 3, "x", x, "images of at least 3 pixels a side")
    try: from torchmetrics.functional.image import structural_similarity_index_measure as compare
    except ImportError as e: raise ImportError("SSIM needs torchmetrics: pip install 'scoreae[metrics]'") from e
    width, sigma = _window(*x.shape[2:])
    edge = width // 2

    def inside(a, b):
        a, b = ((v.double() + 1) / 2 for v in (a, b))
        full = compare(a, b, sigma=sigma, data_range=1.0, reduction="none", return_full_image=True)[1]
        return full[..., edge : a.shape[2] - edge, edge : a.shape[3] - edge].flatten(1).mean(1)

    return in_batches(inside, x, y, size=64)


# %% [markdown]
# scikit-image, which has its own code, gives the same numbers: colour and grey, large and smaller than 11.

# %%
digits = torch.tensor(load_digits().images[:3, None] / 8 - 1)
pairs = [(photos, blurred), (photos, noisy), (photos[:, 1:2], noisy[:, 1:2]),
         (digits, digits.flip(0))]
pairs += [(photos[..., :s, : s + 3], noisy[..., :s, : s + 3])
          for s in (3, 4, 9, 11, 12)]
peer = partial(structural_similarity, data_range=1, channel_axis=0,
               gaussian_weights=True, use_sample_covariance=False)
for x, y in pairs:
    width, sigma = _window(*x.shape[2:])
    for got, p, q in zip(ssim(x, y), unit(x), unit(y), strict=True):
        test_close(got.item(), peer(p, q, win_size=width, sigma=sigma), eps=1e-10)
test_close(ssim(photos, photos), torch.ones(2), eps=1e-12)
test_eq(_window(128, 128), (11, 1.5))


# %% [markdown]
# ## The wrong layout
#
# Most SSIM code takes channels first and pads with zeros. Give it channels *last*, $(N,H,W,C)$, and nothing fails: the height is taken for channels, and the window slides over width and *colour*. The released evaluation script of DBAE [@kim2025dbae] does this. What does it then measure?
#
# The colour axis is three wide, the window eleven. It always reaches over both ends, where there are zeros. Let the window see a constant colour $v$ in one image and $v'$ in the other, and let $p$ be the weight that falls on real pixels. Then $\mu_x=pv$, $s_x^2=pv^2-p^2v^2=p(1-p)v^2$, $s_{xy}=p(1-p)vv'$, and, up to the small constants, both factors of @eq-ssim are the same:
#
# $$\mathrm{SSIM}_{\text{wrong}}\approx\Big(\frac{2vv'}{v^2+v'^2}\Big)^2 .$$ {#eq-nhwc}
#
# The contrast is that of the picture against the padding, which both images share. Structure has gone; only *brightness* is compared, twice. A blur keeps brightness, so it scores close to one.

# %%
def zero_padded(x, y):
    "The usual script: 11 x 11 windows over the last two axes, zeros outside."
    x, y = (x + 1) / 2, (y + 1) / 2
    w = torch.exp(-((torch.arange(11.0).double() - 5) ** 2) / (2 * 1.5**2))
    w = (w[:, None] * w / w.sum() ** 2).expand(x.shape[1], 1, 11, 11)
    mx, my, xx, yy, xy = (F.conv2d(v, w, padding=5, groups=x.shape[1])
                          for v in (x, y, x * x, y * y, x * y))
    brightness = (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
    structure = (2 * (xy - mx * my) + 0.03**2) / (xx - mx**2 + yy - my**2 + 0.03**2)
    return (brightness * structure).flatten(1).mean(1)


def last(v): return v.permute(0, 2, 3, 1)


right, wrong = ssim(photos, blurred), zero_padded(last(photos), last(blurred))
assert (wrong > right + 0.2).all() and (wrong > 0.85).all()
test_close(zero_padded(photos, blurred), right, eps=0.05)  # the script, channels first
u, v = (torch.full_like(photos, c) for c in (0.6, -0.4))  # even colours 0.8 and 0.3
expected = (2 * 0.8 * 0.3 / (0.8**2 + 0.3**2)) ** 2
test_close(zero_padded(last(u), last(v)), torch.full((2,), expected), eps=0.01)
Table({"channels first": each(right), "channels last": each(wrong)},
      name="SSIM of the blur", digits=4)

# %%
with expect_fail(ValueError, contains="x: expected channels first"):
    ssim(last(photos), last(blurred))

# %%
#| label: fig-layout
#| fig-cap: 'The two photographs (88×88 pixels of each) and their blurs. With channels first the SSIM says how much structure is lost; in the wrong layout both blurs score above 0.85.'
#| fig-alt: 'Four square pictures in a row: a piece of a temple and its blur, a piece of a flower and its blur. Over each blur stand its two scores, the SSIM and that of the wrong layout: 0.41 and 0.88 for the temple, 0.70 and 0.98 for the flower.'
fig, axes = plt.subplots(1, 4, figsize=(6, 2.1))
titles = [t for r, w in zip(right, wrong, strict=True)
          for t in ("image", f"SSIM {r:.2f}\nwrong layout {w:.2f}")]
shown = torch.stack([photos, blurred], 1).flatten(0, 1)[..., 20:108, 20:108]
for ax, v, title in zip(axes, shown, titles, strict=True):
    ax.imshow(unit(v.permute(1, 2, 0)))
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()


# %% [markdown]
# ## LPIPS
#
# The learned distance LPIPS [@zhang2018lpips] compares two images inside a classifier. With unit-length feature vectors $\hat f^l_{hw}(x)$ (over channels) at five layers $l$ of AlexNet, and non-negative weights $w_l$ fitted to human judgements,
#
# $$\mathrm{LPIPS}(x,y)=\sum_l\frac1{H_lW_l}\sum_{h,w}\big\|\sqrt{w_l}\odot\big(\hat f^l_{hw}(x)-\hat f^l_{hw}(y)\big)\big\|^2 .$$ {#eq-lpips}
#
# torchmetrics ships the $w_l$, torchvision fetches AlexNet. Nothing here opens a connection unasked: without the weights on disk the call fails and says so, and `download=True` fetches them. The network was trained on colour photographs, needs at least 31 pixels a side, and says little about $8\times8$ digits.

# %%
#| exports
def lpips(x: Tensor, y: Tensor, download: bool = False) -> Tensor:
    """LPIPS of every image by AlexNet, (N,), >= 0 (Zhang et al. 2018): batches (N, C, H, W) in [-1, 1], C 1 or 3.

    Sides of at least 31 pixels. Grey images are repeated to three channels. AlexNet's weights must be in torch's hub
    folder, or are fetched if `download`. Needs torchmetrics.
    """
    mse(x, y)  # the same checks
    require(x.shape[1] in (1, 3), "x", x, "channels first: (N, 1, H, W) or (N, 3, H, W)")
    require(min(x.shape[2:]) >= 31, "x", x, "images of at least 31 pixels a side")
    require_choice(download, "download", (False, True))
    try: from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    except ImportError as e: raise ImportError("LPIPS needs torchmetrics: pip install 'scoreae[metrics]'") from e
    from torchvision.models import AlexNet_Weights

    weights = AlexNet_Weights.DEFAULT
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    size = f"{weights.meta['_file_size']:.0f} MB"
    require(download or path.exists(), "download", download, f"True ({size}), or the weights of AlexNet at {path}")
    net = LearnedPerceptualImagePatchSimilarity("alex").net.to(x.device)
    colour = (v.float().expand(-1, 3, -1, -1) for v in (x, y))
    return in_batches(lambda a, b: net(a, b).reshape(-1), *colour, size=64).double()


# %%
with (
    expect_fail(ValueError, contains="download: expected True (233 MB), "
                                     "or the weights of AlexNet at an/empty/folder"),
    patch("torch.hub.get_dir", return_value="an/empty/folder"),
):
    lpips(photos, noisy)
with expect_fail(ValueError, contains="at least 31 pixels"): lpips(digits, digits)

# %% [markdown]
# ## Equal error, another rank
#
# Halve the contrast of the photographs, to leave room for noise. Blur them, or add uniform noise scaled to exactly the squared error of the blur. MSE and PSNR see no difference by construction. SSIM does, and which of the two it prefers depends on the picture: noise hides in the texture of the first, and a blur hurts that most.

# %%
dull, soft = photos / 2, blurred / 2
g = torch.Generator().manual_seed(0)
uniform = 2 * torch.rand(dull.shape, generator=g, dtype=torch.float64) - 1
scale = (4 * mse(dull, soft) / uniform.square().flatten(1).mean(1)).sqrt()
grainy = dull + scale[:, None, None, None] * uniform
test_close(mse(dull, grainy), mse(dull, soft), eps=1e-12)
blur, grain = ssim(dull, soft), ssim(dull, grainy)
assert blur[0] < grain[0] and blur[1] > grain[1]
Table({"blur": each(blur), "noise": each(grain)}, name="SSIM", digits=4)

# %% [markdown]
# ## What can go wrong
#
# * **Averaging PSNR or taking the PSNR of an average.** They differ by Jensen's inequality; the mean of PSNRs is never below the PSNR of the mean error. Here it is per image, then averaged.
# * **Comparing a point with a sample.** @eq-twice: 3 dB in favour of the blur. Give both, in two columns.
# * **SSIM without its conventions.** Another window, padding or data range gives another number. `torchmetrics` by default also averages the padded borders; scikit-image uses a flat $7\times7$ window unless told otherwise.
# * **Channels last.** Refused here, unless the height happens to be 1 or 3. Other code takes it in silence.
# * **Clipping.** Samples leave $[-1,1]$ a little. Clamp before measuring, for every model alike.
