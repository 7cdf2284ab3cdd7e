# %% [markdown]
# # Fitting in
#
# > A trained model as a transformer of scikit-learn, as a repository of the Hugging Face hub, and as an exported graph.

# %% [markdown]
# A code is only useful where the rest of your work happens. This page gives a trained model three faces that others know: scikit-learn's transformer, the hub's `push_to_hub` and `from_pretrained`, and a graph of `torch.export` that runs without this library. Each is a thin shell over what the model does already, and each is checked against that.

# %%
#| default_exp interop

# %%
#| exports
import inspect
import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scoreae.autoencoder import Autoencoder
from scoreae.core import require, require_int
from scoreae.zoo import load

# %%
#| hide
import tempfile

from fastcore.test import expect_fail, test_close, test_eq
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scoreae import data
from scoreae.baselines import AE
from scoreae.sami import SAMI
from scoreae.training import fit


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
classifier = make_pipeline(Encoder(model), StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
accuracy = classifier.score(x_test, y_test)
assert accuracy > 0.8
test_eq(classifier[0].get_feature_names_out()[:2].tolist(), ["encoder0", "encoder1"])
with expect_fail(ValueError, contains="X: expected rows of 64 values"): Encoder(model).fit(np.zeros((3, 5)))
round(accuracy, 3)


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
room = tempfile.TemporaryDirectory()
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
# For use without Python, or without this library: the encoder's means as a graph of `torch.export`, for any number of images. Codes of a graph are those of the model up to rounding.

# %%
#| exports
class _Means(nn.Module):
    "The means of a model's codes, nothing else."

    def __init__(self, model: Autoencoder):
        super().__init__()
        self.model, self.level = model, model.span[1]
        self.told = "level" in inspect.signature(model.codes).parameters

    def forward(self, x: Tensor) -> Tensor:
        return self.model.codes(x, *([torch.full_like(x[:, 0, 0, 0], self.level)] if self.told else []))[0]


def export_encoder(model: Autoencoder, file: str | os.PathLike | None = None, most: int = 4096):
    "The encoder as a graph of `torch.export`, images (N, C, H, W) in [-1, 1] to codes (N, z_dim), 2 <= N <= `most`."
    batch = torch.export.Dim("batch", min=2, max=require_int(most, "most", low=3))
    like = torch.zeros(3, *model.shape, device=model.device, dtype=model.dtype)
    with torch.no_grad(): graph = torch.export.export(_Means(model.eval()), (like,), dynamic_shapes=({0: batch},))
    if file is not None: torch.export.save(graph, str(file))
    return graph


# %%
torch.manual_seed(0)
sami = SAMI((1, 8, 8), 4, width=8)
for m in (model, sami):
    export_encoder(m, f"{room.name}/encoder.pt2")
    graph = torch.export.load(f"{room.name}/encoder.pt2").module()
    test_close(graph(x_test), m.encode(x_test), eps=1e-5)
room.cleanup()
graph(x_test[:2]).shape

# %% [markdown]
# ## What can go wrong
#
# * **Pixels in another range.** scikit-learn's digits are 0 to 16. The model wants $[-1,1]$ and says so.
# * **Cross-validating the encoder.** A model that was trained on all images has seen the test folds. Train it on other images, or read the score as optimistic.
# * **A graph on another device.** It is made for the device that the model was on.
