# %% [markdown]
# # Elsewhere
#
# > A trained model as a transformer of scikit-learn, a repository of the Hugging Face hub, an exported graph, and a pipeline of diffusers.

# %% [markdown]
# A code is only useful where the rest of your work happens. This page gives a trained model four faces that others know: scikit-learn's transformer, the hub's `push_to_hub` and `from_pretrained`, a graph of `torch.export` or ONNX that runs without this library, and a pipeline folder of diffusers. Each is a thin shell over what the model does already, and each is checked against that.

# %%
#| default_exp use.elsewhere

# %%
#| exports
import inspect
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from scoreae.core.checks import require, require_int
from scoreae.foundations.gaussians import GaussianDenoiser
from scoreae.foundations.paths import Coefs
from scoreae.foundations.scores import Denoiser, scalings
from scoreae.images.files import staged
from scoreae.models.contract import Autoencoder, write_atomic
from scoreae.models.networks import UNet
from scoreae.models.pretrained import PREDICTIONS, Timed
from scoreae.models.sami import SAMI
from scoreae.models.zoo import load

# %%
#| hide
import tempfile

# %%
#| hide
room = tempfile.TemporaryDirectory()
os.environ["HF_MODULES_CACHE"] = f"{room.name}/modules"

# %%
#| hide
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.utils.logging import disable_progress_bar, set_verbosity_error
from fastcore.test import expect_fail, test_close, test_eq
from onnx.reference import ReferenceEvaluator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scoreae import data
from scoreae.core.checks import rng
from scoreae.models.baselines import AE
from scoreae.models.pretrained import from_diffusers
from scoreae.use.training import fit

# %%
#| hide
disable_progress_bar()
set_verbosity_error()


# %% [markdown]
# ## scikit-learn
#
# scikit-learn's data are rows of numbers, `(N, C·H·W)`; `transform` gives the means of the codes. The model is trained already, so `fit` only checks the number of columns: a pipeline around it can be fitted, cloned and cross-validated without training the model again. Images may also come as `(N, C, H, W)`.
#
# scikit-learn is imported when `Encoder` is first called, not with this module. So `Encoder` is a function that makes an object of the class that it derives from scikit-learn's.

# %%
#| exports
def _rows(model, X):
    "Images (N, C, H, W) as rows; anything else as it is."
    require(isinstance(model, Autoencoder), "model", model, "a trained model")
    if isinstance(X, Tensor): X = X.detach().cpu().numpy()
    return X.reshape(len(X), -1) if getattr(X, "ndim", 2) == 4 else X


@cache
def _encoder_class() -> type:
    "The class of `Encoder`, which needs scikit-learn."
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted, validate_data

    class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
        def __init__(self, model=None): self.model = model
        def __reduce__(self): return globals()["Encoder"], (self.model,), self.__getstate__()
        def __sklearn_is_fitted__(self): return hasattr(self, "n_features_in_")
        def fit(self, X, y=None):
            validate_data(self, _rows(self.model, X), dtype="numeric")
            wide = int(np.prod(self.model.shape))
            require(self.n_features_in_ == wide, "X", X, f"rows of {wide} values of images {self.model.shape}")
            self._n_features_out = self.model.z_dim
            return self
        def transform(self, X):
            check_is_fitted(self)
            rows = validate_data(self, _rows(self.model, X), dtype="numeric", reset=False)
            x = torch.from_numpy(np.array(rows, dtype=np.float32))
            return self.model.encode(x.reshape(-1, *self.model.shape)).numpy()

    return Encoder


def Encoder(model: Autoencoder):
    """A scikit-learn transformer of images in [-1, 1], rows (N, C H W) or (N, C, H, W), to codes (N, z_dim).

    `model` is trained; `fit` does not train it. Works in a `Pipeline`, can be cloned and pickled.
    """
    require(isinstance(model, Autoencoder), "model", type(model).__name__, "an Autoencoder")
    return _encoder_class()(model)


# %%
x, y = data.digits(labels=True)
x_test, y_test = data.digits("test", labels=True)
torch.manual_seed(0)
model = AE((1, 8, 8), 16, width=8)
fit(model, x, steps=300, lr=3e-3, progress=False)
z = Encoder(model).fit_transform(x.flatten(1).numpy())
test_eq(z, model.encode(x).numpy())
steps = Encoder(model), StandardScaler(), LogisticRegression(max_iter=1000)
classifier = make_pipeline(*steps).fit(x, y)
accuracy = classifier.score(x_test, y_test)
assert accuracy > 0.8
test_eq(classifier[0].get_feature_names_out()[:2].tolist(), ["encoder0", "encoder1"])
f"{accuracy:.1%} of the held-out digits are told right"

# %%
with expect_fail(ValueError, contains="X: expected rows of 64 values"):
    Encoder(model).fit(np.zeros((3, 5)))


# %% [markdown]
# ## The hub
#
# The hub keeps folders, and a saved model is a folder. huggingface_hub's mixin brings the rest: `push_to_hub`, `from_pretrained` with revisions and caching. It wraps a model; what is stored is exactly what `model.save` writes, with a card beside it. Loading runs no code from the repository.

# %%
#| exports
@cache
def _hub_class() -> type:
    "The class behind `Hub`, which needs huggingface_hub."
    from huggingface_hub import ModelHubMixin, snapshot_download

    class Hub(ModelHubMixin, library_name="scoreae", tags=["score-based-autoencoder"]):
        "A model of this library, as the hub knows models."

        def __init__(self, model): self.model = model
        def _save_pretrained(self, save_directory): self.model.save(save_directory)
        @classmethod
        def _from_pretrained(cls, *, model_id, revision, cache_dir, force_download, local_files_only, token, **kw):
            how = {"revision": revision, "cache_dir": cache_dir, "token": token, "force_download": force_download}
            local = Path(model_id).is_dir()
            place = model_id if local else snapshot_download(model_id, local_files_only=local_files_only, **how)
            return cls(load(place))

    return Hub


def to_hub(model: Autoencoder, folder: str | os.PathLike, repo_id: str | None = None, push: bool = False, **kw) -> None:
    "Write the model and its card to `folder`; with `push`, also to `repo_id` of the hub. Keywords as in `push_to_hub`."
    require(not push or repo_id is not None, "repo_id", repo_id, "a repository, like 'me/model'")
    _hub_class()(model).save_pretrained(folder, repo_id=repo_id, push_to_hub=push, **kw)


def from_hub(name: str | os.PathLike, **kw) -> Autoencoder:
    "The model of a hub repository, or of a folder. Keywords as in `from_pretrained`: `revision`, `token`, ..."
    return _hub_class().from_pretrained(str(name), **kw).model


# %%
to_hub(model, f"{room.name}/hub")
again = from_hub(f"{room.name}/hub")
test_eq((type(again), again.config), (type(model), model.config))
test_eq(again.encode(x_test), model.encode(x_test))
card = Path(room.name, "hub", "README.md").read_text()
assert "score-based-autoencoder" in card
sorted(p.suffix for p in Path(room.name, "hub").iterdir())


# %% [markdown]
# ## A graph
#
# For use without Python, or without this library: the encoder's means as a graph of `torch.export`, for any number of images. It is kept as torch keeps graphs, or as ONNX, which other runtimes read; here ONNX's own reference runs it. Codes of a graph are those of the model up to rounding.

# %%
#| exports
class _Means(nn.Module):
    "The means of a model's codes, nothing else."

    def __init__(self, model: Autoencoder):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor: return self.model.codes(x)[0]


def _save_graph(graph, file: Path) -> None:
    "Write a graph to a file: for .onnx as ONNX, which needs its packages, else as torch.export keeps graphs."
    with staged(file) as part:
        if file.suffix != ".onnx": return torch.export.save(graph, str(part))
        try: import onnxscript  # noqa: F401
        except ImportError as e: raise ImportError("ONNX needs its packages: pip install 'scoreae[onnx]'") from e
        names = {"input_names": ["images"], "output_names": ["codes"], "dynamic_shapes": {"x": {0: "batch"}}}
        torch.onnx.export(graph, (), part, dynamo=True, verbose=False, external_data=False, **names)


def export_encoder(model: Autoencoder, file: str | os.PathLike | None = None, most: int = 4096):
    """The encoder as a graph of `torch.export`, images (N, C, H, W) in [-1, 1] to codes (N, z_dim), 2 <= N <= `most`.

    It is saved to `file`, as ONNX if its name ends in .onnx.
    """
    batch = torch.export.Dim("batch", min=2, max=require_int(most, "most", low=3))
    like = torch.zeros(3, *model.shape, device=model.device, dtype=model.dtype)
    with torch.no_grad(): graph = torch.export.export(_Means(model.eval()), (like,), dynamic_shapes=({0: batch},))
    if file is not None: _save_graph(graph, Path(file))
    return graph


# %%
torch.manual_seed(0)
sami, file = SAMI((1, 8, 8), 4, width=8), f"{room.name}/encoder"
for m in (model, sami):
    export_encoder(m, f"{file}.pt2")
    graph = torch.export.load(f"{file}.pt2").module()
    test_close(graph(x_test), m.encode(x_test), eps=1e-5)
    export_encoder(m, f"{file}.onnx")
    images = {"images": x_test[:7].numpy()}
    codes = ReferenceEvaluator(f"{file}.onnx").run(None, images)
    test_close(codes[0], m.encode(x_test[:7]).numpy(), eps=1e-5)
graph(x_test[:2]).shape

# %% [markdown]
# ## A pipeline of diffusers
#
# A SAMI contains an unconditional denoiser, which is a model of images of its own. diffusers keeps such a model as a folder with a network that predicts the noise at timesteps $i=0,\dots,N-1$, and a scheduler with a table of noise levels. Two cases:
#
# * **The network is diffusers' own**, because the model was built on one (`sa.SAMI(..., denoiser=sa.from_diffusers(unet, scheduler))`, [Denoisers from elsewhere](../models/11_pretrained.ipynb)). It is put back with the table that it came with, and diffusers reads the folder as any other.
# * **The network is ours.** diffusers does not have its class, so the folder brings it: a file with the source of the network and nothing of this library. diffusers runs such code only if it is told to, with `trust_remote_code=True`.
#
# In the second case the table is the model's path at the times $(i+1)T/N$, and the prediction follows from the parametrisation of [Scores](../foundations/04_scores.ipynb). With $\hat x_0=s\,x_t+o\,F(n\,x_t,\log\gamma)$ for the network $F$, and $x_t=b\,x_0+c\,\varepsilon$,
#
# $$\hat\varepsilon=\frac{x_t-b\,\hat x_0}{c}=\frac{1-b\,s}{c}\,x_t-\frac{b\,o}{c}\,F(n\,x_t,\log\gamma).$$ {#eq-interop-eps}
#
# Four numbers for each timestep say all of it, $n$, $\log\gamma$ and the two factors. They are computed here in double precision and stored with the weights; between timesteps they are interpolated.

# %%
#| exports
COMPONENT = '''"""The denoiser of a score-based autoencoder as diffusers knows denoisers."""

import math
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn
from torch.nn import functional as F


def require(ok, name, value, expected):
    if not ok: raise ValueError(f"{name}: expected {expected}, got {value!r}")
def require_int(value, name, low=1): return int(value)

SOURCE

class NoiseUNet(ModelMixin, ConfigMixin):
    "Noisy images (N, C, H, W) at timesteps (N,) or () to the noise in them."

    @register_to_config
    def __init__(self, sample_size, in_channels, width, timesteps, components=0):
        super().__init__()
        shape, known = (in_channels, *sample_size), components > 0
        self.net = UNet(shape, width, extra=2 * in_channels * known)
        self.register_buffer("table", torch.zeros(timesteps, 7))  # scale, log gamma, shares, b, c, what is shown
        if known:  # the Gaussian that the network corrects
            self.register_buffer("center", torch.zeros(shape))
            self.first = Remainder(shape, components)

    def forward(self, sample, timestep, return_dict=True):
        at = torch.as_tensor(timestep, device=sample.device).flatten().expand(len(sample)).to(self.table)
        low = at.floor().long().clamp(0, len(self.table) - 2)
        row = torch.lerp(self.table[low], self.table[low + 1], (at - low)[:, None])
        scale, level, own, share, b, c, shown = (v.reshape(-1, 1, 1, 1) for v in row.unbind(1))
        first, told = own * sample, None
        if self.config.components:
            v, gamma = (sample - b * self.center) / c, (b / c).square().flatten()
            image, first = self.first.estimates(v, gamma)
            told = torch.cat([self.center + image, shown * first], 1)
        noise = first - share * self.net(scale * sample, level.flatten(), extra=told)
        return UNet2DOutput(sample=noise) if return_dict else (noise,)
'''


def _component() -> str:
    "The source of the component: `COMPONENT` with that of our U-Net."
    from scoreae.core import checks
    from scoreae.foundations import gaussians
    from scoreae.models import networks

    blocks = (networks.LevelEmbedding, networks._norm, networks._conv, networks._zero, networks.ResBlock)
    first = gaussians.cosines, gaussians.Basis, gaussians.Remainder
    parts = (*blocks, networks.resolutions, checks.check_shape, networks.UNet, *first)
    known = f"BANDS, SCALES = {gaussians.BANDS}, {gaussians.SCALES}\n"
    return COMPONENT.replace("SOURCE", "\n\n".join([known, *map(inspect.getsource, parts)]))


def _noise_table(D: Denoiser, alpha_bar: Tensor) -> Tensor:
    "The numbers of the component for each entry of a table (N,): (N, 7)."
    b, c, gamma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), alpha_bar / (1 - alpha_bar)
    s = scalings(D.kind, Coefs(torch.zeros_like(b), b, c), D.stats)
    begun = isinstance(D, GaussianDenoiser)
    out, shown = (D.scale(gamma), D.shown(gamma)) if begun else (s.out, torch.zeros_like(b))
    return torch.stack([s.inp, gamma.log().clamp(*D.span), s.rest / c, b * out / c, b, c, shown], 1).float()


# %%
#| exports
def _own_component(D: Denoiser, net: UNet, folder: Path, alpha_bar: Tensor, shape: Sequence[int]) -> None:
    "Write our U-Net, and the Gaussian that it corrects if it does, as a component of a pipeline."
    folder.mkdir(parents=True, exist_ok=True)
    width, known = net.stem.out_channels, {"sample_size": list(shape[1:]), "in_channels": shape[0]}
    weights = {f"net.{k}": v for k, v in net.state_dict().items()} | {"table": _noise_table(D, alpha_bar)}
    if isinstance(D, GaussianDenoiser):
        first = {k: v for k, v in D.gaussian.state_dict().items() if k not in ("center", "fitted")}
        weights |= {"center": D.center} | {f"first.{k}": v for k, v in first.items()}
    components = len(weights.get("first.variances", ()))
    config = {"_class_name": "NoiseUNet", **known, "width": width, "timesteps": len(alpha_bar), "components": components}
    weights = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
    write_atomic(folder / "noise_unet.py", _component().encode())
    write_atomic(folder / "config.json", json.dumps(config, indent=1).encode())
    write_atomic(folder / "diffusion_pytorch_model.safetensors", safetensors.save(weights, {"format": "pt"}))


def to_diffusers(model: Autoencoder, folder: str | os.PathLike, timesteps: int = 1000) -> None:
    """Write the unconditional denoiser of a SAMI as a `DDPMPipeline` folder of diffusers, with `timesteps` levels.

    A network that came from diffusers keeps its own table. One of ours is written with its source: read it with
    `DDPMPipeline.from_pretrained(folder, trust_remote_code=True)`. `ValueError` for any other model or network.
    """
    from diffusers import DDPMPipeline, DDPMScheduler, __version__

    D = model.base() if isinstance(model, SAMI) else None
    inner, place, own = getattr(D, "D", D), Path(folder), isinstance(getattr(model, "net", None), UNet)
    known = D is not None and (own or isinstance(inner, Timed))
    require(known, "model", type(model).__name__, "a SAMI on our U-Net or on a network of diffusers")
    n = inner.path.N if isinstance(inner, Timed) else require_int(timesteps, "timesteps", low=2)
    alpha_bar = model.path.alpha(torch.arange(1, n + 1).double() * model.path.T / n) ** 2
    betas = 1 - alpha_bar / torch.cat([torch.ones(1).double(), alpha_bar[:-1]])
    said = {v: k for k, v in PREDICTIONS.items()}.get(inner.kind, "epsilon")
    scheduler = DDPMScheduler(n, trained_betas=betas.tolist(), prediction_type=said)
    if not own: return DDPMPipeline(inner.F, scheduler).save_pretrained(place)
    scheduler.save_pretrained(place / "scheduler")
    _own_component(D, model.net, place / "unet", scheduler.alphas_cumprod.double(), model.shape)
    index = {"_class_name": "DDPMPipeline", "_diffusers_version": __version__}
    index |= {"scheduler": ["diffusers", "DDPMScheduler"], "unet": ["noise_unet", "NoiseUNet"]}
    write_atomic(place / "model_index.json", json.dumps(index, indent=1).encode())


# %% [markdown]
# Both are read back by diffusers. Our own: what the component predicts is, by @eq-interop-eps, the denoiser's answer; and [Denoisers from elsewhere](../models/11_pretrained.ipynb) turns the pipeline into a denoiser again, which must be the one that went in. diffusers' own sampler draws from it. Without `trust_remote_code=True` diffusers refuses the folder.

# %%
with torch.no_grad():
    for p in sami.net.parameters(): p += 0.05 * torch.randn(p.shape, generator=rng(0))
    to_diffusers(sami, f"{room.name}/ours", 100)
    pipeline = DDPMPipeline.from_pretrained(f"{room.name}/ours", trust_remote_code=True)
    again, D = from_diffusers(pipeline), sami.base()
    t = torch.tensor([0.01, 0.2, 0.5, 0.99]).double()
    x_t = D.path.mix(x[:4], torch.randn(x[:4].shape, generator=rng(1)), t)
    test_close(again(x_t, t), D(x_t, t), eps=2e-4)
pipeline.set_progress_bar_config(disable=True)
how = {"num_inference_steps": 10, "output_type": "np", "generator": rng(0)}
drawn = pipeline(batch_size=2, **how).images
test_eq(drawn.shape, (2, 8, 8, 1))
sorted(p.name for p in Path(room.name, "ours", "unet").iterdir())

# %%
with expect_fail(ValueError, contains="trust_remote_code"):
    DDPMPipeline.from_pretrained(f"{room.name}/ours")

# %% [markdown]
# And a SAMI on a network of diffusers' own. No code is run to read it back.

# %%
small = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1,
         "norm_num_groups": 4, "block_out_channels": (8, 8)}
kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
unet = UNet2DModel(**small, **kinds)
theirs = SAMI((1, 8, 8), 4, denoiser=from_diffusers(unet, DDPMScheduler(50)))
fit(theirs, x, steps=10, progress=False)
to_diffusers(theirs, f"{room.name}/theirs")
again, D = from_diffusers(f"{room.name}/theirs"), theirs.base()
with torch.no_grad(): test_close(again(x_t, t), D(x_t, t), eps=2e-4)

# %%
with expect_fail(ValueError, contains="model: expected a SAMI"):
    to_diffusers(model, room.name)

# %%
#| hide
room.cleanup()

# %% [markdown]
# ## What can go wrong
#
# * **Pixels in another range.** scikit-learn's digits are 0 to 16. The model wants $[-1,1]$ and says so.
# * **Cross-validating the encoder.** A model that was trained on all images has seen the test folds. Train it on other images, or read the score as optimistic.
# * **ONNX.** The export needs packages of its own, `pip install 'scoreae[onnx]'`. For torch, the graph of `torch.export` is enough, and needs none.
# * **Code in a folder.** `trust_remote_code=True` runs the folder's code. Do it for folders that you wrote, or read.
# * **A graph on another device.** It is made for the device that the model was on.
