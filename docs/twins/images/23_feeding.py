# %% [markdown]
# # Feeding
#
# > Batches of images by index, from floats, from bytes, or from a disk that holds more than the memory, in an order that can be taken up again.

# %% [markdown]
# A training asks for one thing: the images of a list of indices, as floats in $[-1,1]$, on the device. Where they come from is a matter of size. A few thousand fit as floats; a few million fit as bytes, a quarter of that; beyond, they stay on the disk and are read batch by batch. This page shows that all three give the same batches, that the memory of a streamed set does not grow with it, and that an interrupted order of batches goes on where it stopped.

# %%
#| default_exp images.feeding

# %%
#| exports
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from scoreae.core.checks import check_images, require, require_int, rng
from scoreae.images.files import to_float

# %%
#| hide
import tempfile
import tracemalloc
from pathlib import Path

import matplotlib.pyplot as plt
from fastcore.test import expect_fail, test_eq
from torch.utils.data import TensorDataset

from scoreae import data
from scoreae.core.pages import Table, paper

# %%
#| hide
paper()


# %% [markdown]
# ## Three kinds of images
#
# * A **floating-point tensor** is taken as it is, and moved to the device as a whole.
# * A **tensor of bytes** (`uint8`, levels 0 to 255) is moved to the device as bytes, and becomes floats batch by batch.
# * **Bytes in a numpy array**, in memory or mapped from a file (`np.load(file, mmap_mode="r")`), and **datasets** with a length and an index, whose items are image tensors or begin with one, stay where they are. Each batch is read, converted and moved when it is asked for.
#
# Floats in a numpy array are refused: `data.load` asks for their range and makes a tensor of them ([Files](20_files.ipynb)).

# %%
#| exports
def _check(x, shape: Sequence[int]) -> None:
    "`ValueError` unless `x` is a source of at least two images of `shape`; of a dataset, the first item is looked at."
    array = isinstance(x, Tensor | np.ndarray)
    if array and x.dtype in (torch.uint8, np.dtype("uint8")):
        want = "(N, " + ", ".join(map(str, shape)) + ")"
        require(x.ndim == 4 and tuple(x.shape[1:]) == tuple(shape), "x", x, f"images {want}")
    elif isinstance(x, Tensor): check_images(x, shape)
    else:
        ok = hasattr(x, "__getitem__") and hasattr(x, "__len__") and not isinstance(x, str | bytes | Mapping)
        require(ok and not array, "x", x, "a tensor of images in [-1, 1], levels in uint8, or a dataset with a length")
    require(len(x) > 1, "x", x, "at least two images")
    if not array: _item(x[0], shape)


def _item(item, shape: Sequence[int]) -> Tensor:
    "The image (C, H, W) of a dataset's item, which is one, or begins with one."
    image = item[0] if isinstance(item, tuple | list) else item
    ok = isinstance(image, Tensor) and tuple(image.shape) == tuple(shape)
    require(ok, "x", image, f"a dataset whose items are image tensors {tuple(shape)}, or begin with one")
    return image


# %%
#| exports
class Feed:
    """Images (n, C, H, W) by index, floats in [-1, 1] on `device`: `feed[index]` for an index (n,).

    `x`: a floating-point tensor (N, C, H, W) in [-1, 1]; levels in uint8, as a tensor (moved to the device once) or
    numpy array (left where it is); or a dataset of such images. `ValueError` for anything else, at once or when read.
    """

    def __init__(self, x, shape: Sequence[int]):
        _check(x, shape)
        self.x, self.shape, self.device = x.detach() if isinstance(x, Tensor) else x, tuple(shape), torch.device("cpu")

    def __len__(self) -> int: return len(self.x)

    def to(self, device: torch.device | str) -> "Feed":
        "Give batches on `device` from now on."
        self.device = torch.device(device)
        if isinstance(self.x, Tensor): self.x = self.x.to(self.device)
        return self

    def __getitem__(self, index: Tensor) -> Tensor:
        if isinstance(self.x, Tensor): batch = self.x[index.to(self.device)]
        elif isinstance(self.x, np.ndarray): batch = torch.from_numpy(np.array(self.x[index.numpy()]))
        else: batch = torch.stack([_item(self.x[i], self.shape) for i in index.tolist()])
        streamed = not isinstance(self.x, Tensor)
        if batch.dtype == torch.uint8: return to_float(batch.to(self.device))
        return check_images(batch, self.shape).float().to(self.device) if streamed else batch

    def some(self, most: int = 10_000) -> Tensor:
        "All of a floating-point tensor; else at most `most` images, fewer if they are large, a fixed random part."
        if isinstance(self.x, Tensor) and self.x.is_floating_point(): return self.x
        most = min(most, max(512, 2**26 // int(np.prod(self.shape))))
        index = torch.randperm(len(self), generator=rng(0))[:most] if len(self) > most else torch.arange(len(self))
        return self[index.sort().values]

    def fingerprint(self) -> dict:
        "What identifies the images: their number, shape, and a checksum of sixteen of them."
        some = self[torch.linspace(0, len(self) - 1, 16).round().long()].cpu().contiguous()
        digest = hashlib.sha256(some.numpy().tobytes()).hexdigest()[:16]
        return {"images": len(self), "shape": list(self.shape), "sha256 of 16": digest}


# %% [markdown]
# The same patches of photographs, as floats, as bytes, as a mapped file and as a dataset with labels: the same batch, bit for bit.

# %%
room = tempfile.TemporaryDirectory()
floats = data.patches("val", size=16)
levels = data.to_uint8(floats)
np.save(f"{room.name}/x.npy", levels.numpy())
sources = {
    "floats": floats,
    "bytes": levels,
    "mapped file": np.load(f"{room.name}/x.npy", mmap_mode="r"),
    "dataset": TensorDataset(levels, torch.arange(len(levels))),
}
index = torch.tensor([5, 3, 800])
for source in sources.values():
    feed = Feed(source, (3, 16, 16))
    test_eq(feed[index], floats[index])
    test_eq(feed.fingerprint(), Feed(floats, (3, 16, 16)).fingerprint())
Table([feed.fingerprint()])

# %%
#| include: false
for wrong in (floats.numpy(), floats[:, :1], levels[:1], floats.tolist(), "photos",
              None, 255 * floats):
    with expect_fail(ValueError, contains="x: expected"): Feed(wrong, (3, 16, 16))

# %% [markdown]
# ## Memory
#
# A mapped file of a million images, and a hundred batches of it: what Python and numpy allocate on the way is one batch, whatever the size of the file.

# %%
sizes, peaks = [10**3, 10**4, 10**5, 10**6], []
for n in sizes:
    file = Path(room.name, f"{n}.npy")
    big = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(n, 1, 8, 8))
    feed = Feed(np.load(file, mmap_mode="r"), (1, 8, 8))
    tracemalloc.start()
    for _ in range(100): feed[torch.randint(n, (64,), generator=rng(0))]
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
assert max(peaks) < 1.5 * min(peaks) < 1e5

# %%
#| label: fig-memory
#| echo: false
#| fig-cap: 'What a hundred batches allocate stays the same while the file grows a thousandfold.'
#| fig-alt: 'Line chart with logarithmic axes: size in megabytes against the number of images in the file, from a thousand to a million. The dashed line of the file rises from 0.06 to 64; the line of what is allocated for batches of 64 images stays near 0.01.'
fig, ax = plt.subplots(figsize=(6, 2.6))
ax.plot(sizes, [64 * n / 1e6 for n in sizes], "--", label="the file")
ax.plot(sizes, [p / 1e6 for p in peaks], "o-", label="allocated for batches of 64")
ax.set(xscale="log", yscale="log", xlabel="images of 8×8 bytes in the file",
       ylabel="size [megabytes]")
ax.legend();


# %% [markdown]
# ## An order that can be taken up again
#
# The images are shuffled, cut into batches, and shuffled anew when the batches are used up. So no image is seen twice in one pass. If the batch size does not divide the number of images, a few, other ones in each pass, are left out of it.
#
# The order of a pass is determined by the state of the random generator when the pass began. With that state and the position in the pass, `state` and `restore` interrupt the order and take it up again, in another process if need be.

# %%
#| exports
class Batches:
    "Endless index batches of `size` (at most n), in a new random order in every pass; a short last batch is left out."

    def __init__(self, n: int, size: int, g: torch.Generator):
        self.n, self.size, self.g = n, min(require_int(size, "size"), n), g
        self.begun, self.order, self.at = None, None, n

    def __iter__(self) -> "Batches": return self

    def __next__(self) -> Tensor:
        if self.at + self.size > self.n: self._shuffle()
        self.at += self.size
        return self.current()

    def _shuffle(self) -> None:
        self.begun = self.g.get_state()
        self.order, self.at = torch.randperm(self.n, generator=self.g), 0

    def current(self) -> Tensor:
        "The batch that was given last."
        return self.order[self.at - self.size : self.at]

    def state(self) -> tuple[Tensor, int]:
        "The generator's state when the pass began, and the position in the pass; after the first batch."
        return self.begun, self.at

    def restore(self, begun: Tensor, at: int) -> None:
        "Go back to a state: the next batch is the one that came after it."
        self.g.set_state(begun)
        self._shuffle()
        self.at = at


# %%
stream = Batches(10, 4, rng(0))
passes = [[next(stream), next(stream)] for _ in range(2)]
for one_pass in passes: test_eq(len(torch.cat(one_pass).unique()), 8)

for taken in range(1, 6):  # interrupted, the order goes on as it would have
    first, second = Batches(10, 4, rng(0)), Batches(10, 4, rng(99))
    for _ in range(taken): next(first)
    second.restore(*first.state())
    test_eq(second.current(), first.current())
    test_eq([next(second) for _ in range(5)], [next(first) for _ in range(5)])
Table({i: {"first batch": a.tolist(), "second batch": b.tolist()}
       for i, (a, b) in enumerate(passes, 1)}, name="pass")

# %%
#| hide
room.cleanup()

# %% [markdown]
# ## What can go wrong
#
# * **A dataset that changes.** The fingerprint looks at sixteen images, so that it is quick. A change elsewhere goes unnoticed.
# * **A dataset that augments at random** draws from its own random state, which is not kept: such a training goes on after an interruption, but not bit for bit.
# * **A slow disk.** Batches are read between the steps. If reading takes longer than a step, copy the images to memory as bytes.
