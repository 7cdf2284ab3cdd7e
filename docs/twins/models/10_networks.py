# %% [markdown]
# # Networks
#
# > A U-Net, half a U-Net, a decoder and an MLP: small, any image size, no batch statistics, smooth enough to differentiate twice.

# %% [markdown]
# What must a network be able to do to serve here? One that lacks a property fails without a word: training still runs. So the list is worth having before the first model.
#
# Nothing about score-based autoencoders is specific to an architecture, but some properties are needed. The encoder's output is differentiated with respect to its *input image*, and the loss then with respect to the weights: activations must have a useful second derivative, and no image may influence another through batch statistics. Image sizes must be free: 8×8×1, 28×28×1, 64×64×3, non-square. This page builds four networks of that kind from one block.

# %%
#| default_exp models.networks

# %%
#| exports
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoreae.core.checks import check_shape, require_int

# %%
#| hide
from fastcore.test import expect_fail, test_close, test_eq

from scoreae.core.pages import Table


# %% [markdown]
# ## The noise level
#
# A network is told the noise level $u=\log\gamma$, not the time: times of different paths do not compare, noise levels do. Sines and cosines of $u$ at geometrically spaced frequencies [@vaswani2017attention; @ho2020ddpm] resolve it at every scale over the range $[-12,16]$ that networks are shown: the slowest turns by 1.4 radians over it, the fastest by one radian in a third of a unit.

# %%
#| exports
class LevelEmbedding(nn.Module):
    "Noise levels log gamma, (N,), to features (N, dim): sines and cosines, then two linear layers."

    def __init__(self, dim: int, frequencies: int = 16):
        super().__init__()
        self.register_buffer("freqs", torch.logspace(math.log10(0.05), math.log10(3.0), frequencies))
        self.net = nn.Sequential(nn.Linear(2 * frequencies, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, level: Tensor) -> Tensor:
        angle = level[:, None] * self.freqs
        return self.net(torch.cat([angle.cos(), angle.sin()], 1))


# %% [markdown]
# ## One block
#
# Two convolutions with group normalisation [@wu2018groupnorm] and SiLU, a skip connection, and *adaptive* normalisation [@perez2018film; @dhariwal2021]: features of the noise level and of the code scale and shift the channels. The second convolution starts at zero, so a fresh block is its skip connection: the identity, or a $1\times1$ convolution where the number of channels changes.

# %%
#| exports
def _norm(channels: int) -> nn.GroupNorm:
    "Normalisation over at most 32 groups of eight channels or more: on a 1x1 map, a group is still several numbers."
    most = min(32, max(1, channels // 8))
    return nn.GroupNorm(max(k for k in range(1, most + 1) if channels % k == 0), channels)


def _conv(cin: int, cout: int, size: int = 3) -> nn.Conv2d: return nn.Conv2d(cin, cout, size, padding=size // 2)


def _zero(layer):
    "The layer, with its parameters set to zero."
    for p in layer.parameters(): nn.init.zeros_(p)
    return layer


class ResBlock(nn.Module):
    "Feature maps (N, cin, H, W) to (N, cout, H, W), modulated by features (N, emb) if `emb` > 0."

    def __init__(self, cin: int, cout: int, emb: int = 0):
        super().__init__()
        self.norm1, self.conv1 = _norm(cin), _conv(cin, cout)
        self.norm2, self.conv2 = _norm(cout), _zero(_conv(cout, cout))
        self.film = nn.Linear(emb, 2 * cout) if emb else None
        self.skip = _conv(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.film is not None:
            scale, shift = self.film(emb)[:, :, None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(h))


# %% [markdown]
# ## The U-Net
#
# Down by average pooling, up by nearest-neighbour interpolation *to the size of the skip connection* [@ronneberger2015unet], which is what makes odd and non-square sizes work: 28 → 14 → 7, 33 → 17 → 9 → 5. The number of resolutions follows from the image's shorter side: it is halved once, and then until it has at most 8 pixels (below 4 pixels it is left as it is).
#
# It takes a code `z` through the modulation, and extra image channels (a bridge's $x_T$) through the input. The last convolution starts at zero.

# %%
#| exports
def resolutions(shape: Sequence[int]) -> int:
    "How many resolutions a U-Net for images (C, H, W) has: 2 at 8 pixels, 3 at 28 or 32, 4 at 64."
    side = min(shape[1:])
    return 1 if side < 4 else 1 + max(1, math.ceil(math.log2(side / 8)))


def check_widths(width: int, encoder_width: int | None = None) -> tuple[int, int]:
    "Checked widths of a model's main network and of its encoder, which by default has half as many, at least 8."
    width = require_int(width, "width")
    return width, max(8, width // 2) if encoder_width is None else require_int(encoder_width, "encoder_width")


class UNet(nn.Module):
    "Images (N, C, H, W), noise levels (N,), codes (N, z_dim) and extra channels (N, extra, H, W) to images."

    def __init__(self, shape: Sequence[int], width: int = 32, z_dim: int = 0, extra: int = 0):
        super().__init__()
        (channels, _, _), emb = check_shape(shape), 4 * require_int(width, "width")
        widths = [width * min(2**i, 4) for i in range(resolutions(shape))]
        self.embed, self.code = LevelEmbedding(emb), nn.Linear(z_dim, emb) if z_dim else None
        self.stem = _conv(channels + extra, width)
        self.down = nn.ModuleList(ResBlock(a, b, emb) for a, b in zip([width, *widths], widths, strict=False))
        self.middle = ResBlock(widths[-1], widths[-1], emb)
        ups = zip([widths[-1], *widths[:0:-1]], widths[::-1], strict=True)
        self.up = nn.ModuleList(ResBlock(a + b, b, emb) for a, b in ups)
        self.head = nn.Sequential(_norm(width), nn.SiLU(), _zero(_conv(width, channels)))

    def forward(self, x: Tensor, level: Tensor, z: Tensor | None = None, extra: Tensor | None = None) -> Tensor:
        emb = self.embed(level) if self.code is None else self.embed(level) + self.code(z)
        h, kept = self.stem(x if extra is None else torch.cat([x, extra], 1)), []
        for i, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2, ceil_mode=True) if i else h, F.silu(emb))
            kept.append(h)
        h = self.middle(h, F.silu(emb))
        for block in self.up:
            side = kept.pop()
            h = block(torch.cat([F.interpolate(h, size=side.shape[2:]), side], 1), F.silu(emb))
        return self.head(h)


# %%
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64),
          (2, 9, 14), (1, 3, 3), (1, 1, 1)]
torch.manual_seed(0)
rows = {}
for shape in SHAPES:
    net = UNet(shape, width=16, z_dim=5, extra=shape[0])
    x, level, z = torch.randn(2, *shape), torch.tensor([-12.0, 16.0]), torch.randn(2, 5)
    y = net(x, level, z, x)
    test_eq(y.shape, x.shape)
    test_eq(y.abs().max().item(), 0.0)  # the head starts at zero
    weights = sum(p.numel() for p in net.parameters())
    rows[shape] = {"resolutions": resolutions(shape), "parameters": f"{weights:,}"}
Table(rows, "channels, height, width")


# %% [markdown]
# ## Half a U-Net: the encoder
#
# The way down, then *flatten* and one linear layer. Global pooling would average away where things are, and position is the first thing that a code should know.

# %%
#| exports
class HalfUNet(nn.Module):
    "Images (N, C, H, W) to features (N, out); with `levels=True` it is also told the noise level (N,)."

    def __init__(self, shape: Sequence[int], out: int, width: int = 16, levels: bool = False):
        super().__init__()
        (channels, height, wide), width = check_shape(shape), require_int(width, "width")
        n, emb = resolutions(shape), 4 * width * bool(levels)
        widths = [width * min(2**i, 4) for i in range(n)]
        self.embed = LevelEmbedding(emb) if levels else None
        self.stem = _conv(channels, width)
        self.down = nn.ModuleList(ResBlock(a, b, emb) for a, b in zip([width, *widths], widths, strict=False))
        side = lambda s: math.ceil(s / 2 ** (n - 1))
        flat = widths[-1] * side(height) * side(wide)
        self.norm, self.head = _norm(widths[-1]), nn.Linear(flat, require_int(out, "out"))

    def forward(self, x: Tensor, level: Tensor | None = None) -> Tensor:
        h, emb = self.stem(x), None if self.embed is None else F.silu(self.embed(level))
        for i, block in enumerate(self.down): h = block(F.avg_pool2d(h, 2, ceil_mode=True) if i else h, emb)
        return self.head(F.silu(self.norm(h)).flatten(1))


# %% [markdown]
# ## From a code to an image: the endpoint decoder
#
# DBAE decodes the end of its bridge from the code. The released decoder uses batch normalisation, which makes the endpoint of one image depend on the others in its batch. Here: a linear layer to the coarsest map, then blocks and interpolation up to the image, with group normalisation. It ends linearly, without a squashing function, because an endpoint is not an image.

# %%
#| exports
class ImageDecoder(nn.Module):
    "Codes (N, z_dim) to images (N, C, H, W), unbounded."

    def __init__(self, shape: Sequence[int], z_dim: int, width: int = 16):
        super().__init__()
        (channels, height, wide), n, width = check_shape(shape), resolutions(shape), require_int(width, "width")
        self.sizes = [(math.ceil(height / 2**i), math.ceil(wide / 2**i)) for i in range(n)][::-1]
        widths = [width * min(2**i, 4) for i in range(n)][::-1]
        self.first = nn.Linear(require_int(z_dim, "z_dim"), widths[0] * self.sizes[0][0] * self.sizes[0][1])
        self.blocks = nn.ModuleList(ResBlock(a, b) for a, b in zip([widths[0], *widths], widths, strict=False))
        self.head = nn.Sequential(_norm(width), nn.SiLU(), _conv(width, channels))

    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z).unflatten(1, (-1, *self.sizes[0]))
        for block, size in zip(self.blocks, self.sizes, strict=True): h = block(F.interpolate(h, size=size))
        return self.head(h)


# %%
for shape in SHAPES:
    x = torch.randn(4, *shape, dtype=torch.float64)
    encoder = HalfUNet(shape, out=6, width=8).double()
    decoder = ImageDecoder(shape, z_dim=6, width=8).double()
    z = encoder(x)
    test_eq(z.shape, (4, 6))
    test_eq(decoder(z).shape, x.shape)
    test_close(encoder(x[:1]), z[:1], eps=1e-10)  # no image sees another
    test_close(decoder(z[2:3]), decoder(z)[2:3], eps=1e-10)
    assert z.std(0).min() > 0  # codes differ between images
test_eq([check_widths(32), check_widths(9)], [(32, 16), (9, 8)])
test_eq(check_widths(32, 4), (32, 4))

# %%
with expect_fail(ValueError, contains="shape"): UNet((8, 8))
with expect_fail(ValueError, contains="width"): UNet((1, 8, 8), width=0)
with expect_fail(ValueError, contains="encoder_width"): check_widths(32, 0)
with expect_fail(ValueError, contains="z_dim"): ImageDecoder((1, 8, 8), 0)


# %% [markdown]
# ## An MLP
#
# For data without spatial structure (codes, toy problems) the same interface with fully connected layers: residual, modulated by the noise level and a condition.

# %%
#| exports
class MLP(nn.Module):
    "Vectors (N, dim), noise levels (N,) and conditions (N, z_dim) to vectors (N, out): residual layers of `width`."

    def __init__(self, dim: int, width: int = 128, depth: int = 3, z_dim: int = 0, out: int | None = None):
        super().__init__()
        require_int(depth, "depth", low=0)
        self.embed, self.code = LevelEmbedding(require_int(width, "width")), nn.Linear(z_dim, width) if z_dim else None
        self.first = nn.Linear(require_int(dim, "dim"), width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(depth))
        self.films = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.layers = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Linear(width, width)) for _ in range(depth))
        self.head = _zero(nn.Linear(width, out or dim))

    def forward(self, x: Tensor, level: Tensor, z: Tensor | None = None) -> Tensor:
        emb = F.silu(self.embed(level) if self.code is None else self.embed(level) + self.code(z))
        h = self.first(x)
        for norm, film, layer in zip(self.norms, self.films, self.layers, strict=True):
            scale, shift = film(emb).chunk(2, 1)
            h = h + layer(norm(h) * (1 + scale) + shift)
        return self.head(F.silu(h))


# %% [markdown]
# ## Two derivatives
#
# SAMI's guidance is the gradient of the encoder's log-density with respect to its input, and its training differentiates that gradient again. With ReLU the second derivative would be zero almost everywhere; with SiLU it is right. We compare it with a finite difference of first derivatives.

# %%
encoder = HalfUNet((1, 8, 8), out=3, width=8, levels=True).double()
for p in encoder.parameters(): nn.init.normal_(p, std=0.2)  # leave the identity start
x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
level = torch.tensor([0.0, 3.0], dtype=torch.float64)


def guidance_energy(weight):
    "Sum of squared input gradients, as a function of the first convolution's weight."
    params = {**dict(encoder.named_parameters()), "stem.weight": weight}
    xg = x.clone().requires_grad_()
    z = torch.func.functional_call(encoder, params, (xg, level))
    G = torch.autograd.grad(z.square().sum(), xg, create_graph=True)[0]
    return G.square().sum()


w = encoder.stem.weight.detach()
direction = torch.randn(w.shape, dtype=torch.float64)
exact = torch.autograd.grad(guidance_energy(wg := w.clone().requires_grad_()), wg)[0]
up, down = (guidance_energy(w + step * direction) for step in (1e-5, -1e-5))
numeric = (up - down) / 2e-5
test_close(((exact * direction).sum() / numeric).item(), 1.0, eps=1e-6)

# %% [markdown]
# ## Exercises
#
# **1.** *Compute.* How many numbers does the last linear layer of the encoder read, for $28\times28$ and for $64\times64$ images at width 16? Which of the two encoders has the larger share of its weights there, with 64 outputs?

# %%
#| code-fold: true
#| code-summary: "Solution"
count = lambda net: sum(p.numel() for p in net.parameters())
share = {}
for side, n in ((28, 3), (64, 4)):
    net = HalfUNet((1, side, side), out=64, width=16)
    coarse = side // 2 ** (n - 1)
    test_eq(net.head.in_features, min(2 ** (n - 1), 4) * 16 * coarse**2)
    share[side] = count(net.head) / count(net)
assert 0.3 < share[64] < share[28] + 0.1  # both end on a map of 7 or 8 pixels

# %% [markdown]
# **2.** *Explain.* Why must the activation be smooth? Take a code $z=v^\top\phi(Wx)$ and differentiate twice by $x$, for ReLU and for SiLU.

# %%
#| code-fold: true
#| code-summary: "Solution"
W, v = torch.randn(16, 5), torch.randn(16)
code = lambda phi: lambda x: v @ phi(W @ x)
curve = {phi: torch.autograd.functional.hessian(code(phi), torch.randn(5))
         for phi in (torch.relu, F.silu)}
test_eq(curve[torch.relu], torch.zeros(5, 5))  # guidance would not change with x
assert curve[F.silu].abs().max() > 0.1


# %% [markdown]
# **3.** *Extend.* Replace *flatten* by global average pooling, and show what is lost: a blob, moved by four pixels.

# %%
#| code-fold: true
#| code-summary: "Solution"
class Pooled(HalfUNet):
    def forward(self, x):
        self.head = nn.Identity()
        return super().forward(x).unflatten(1, (self.norm.num_channels, -1)).mean(2)


blob, change = torch.full((1, 1, 16, 16), -1.0), {}
blob[:, :, 5:8, 5:8] = 1.0
for kind in (Pooled, HalfUNet):
    net = kind((1, 16, 16), out=4, width=8).eval()
    here, there = net(blob), net(blob.roll(4, 3))
    change[kind] = ((here - there).norm() / here.norm()).item()
assert change[Pooled] < 0.1 * change[HalfUNet]

# %% [markdown]
# ## What can go wrong
#
# * **Batch normalisation** inside the guidance couples images: the gradient for one image then depends on the others.
# * **ReLU** in the encoder kills the second derivative, silently; training still runs.
# * **Telling the network the time** ties it to one schedule. These are told $\log\gamma$, so that a denoiser trained on one path can be sampled on another.
