# %% [markdown]
# # Runs
#
# > A folder that holds a training: what it is, how far it got, and a lock; written so that no crash can spoil it.

# %% [markdown]
# Long trainings are interrupted: a power cut, a full disk, a job that is sent away for a more important one. What is on the disk then has to be enough to go on *as if nothing had happened*. This page builds the folder for that. It knows nothing of training; it keeps named tensors and a few numbers, by the step at which they were saved. We show that a damaged or half-written state is never taken for a good one, that a second process is kept out, that a folder of another training is not continued by mistake, and that a full disk costs no state that was there. [Training](41_training.ipynb) uses it for trainings that go on bit for bit.

# %%
#| default_exp use.runs

# %%
#| exports
import datetime
import functools
import hashlib
import json
import os
import platform
import re
import subprocess
from pathlib import Path

import torch
from safetensors import torch as safetensors
from torch import Tensor

from scoreae.core.checks import require, require_int
from scoreae.models.contract import write_atomic

# %%
#| hide
import resource
import tempfile

from fastcore.test import expect_fail, test_eq

import scoreae


# %% [markdown]
# ## Is it the same training?
#
# A run is continued only by the training that began it: the same model, images and settings. Both are written as JSON, so that the question is one of comparing two dictionaries, and the answer names what differs.

# %%
#| exports
def differences(old, new, at: str = "") -> list[str]:
    "What differs between two JSON values, as lines 'place: old -> new'."
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{at}.{k}" if at else k)]
    return [] if old == new else [f"{at}: {json.dumps(old)} -> {json.dumps(new)}"]


# %%
old = {"model": {"class": "SAMI", "z_dim": 8}, "lr": 0.001}
new = {"model": {"class": "SAMI", "z_dim": 16}, "lr": 0.001}
test_eq(differences(old, old), [])
differences(old, new)


# %% [markdown]
# ## One process at a time
#
# Two processes that write to one folder would mix two trainings. The operating system has a lock for that: `flock` on an open file. It needs no cleaning up, because it ends with the process that holds it, however that process ends.

# %%
#| exports
def _lock(folder: Path):
    "The lock of a folder, an open file, or `ValueError` if it is taken; it ends when the file is closed."
    import fcntl  # not on Windows

    file = open(folder / "lock", "a+")  # noqa: SIM115 - stays open
    try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        file.seek(0)
        who = file.read().strip() or "another process"
        file.close()
        raise ValueError(f"run: expected a folder that no training is using, got {folder}, used by {who}") from e
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()
    return file


# %% [markdown]
# ## States
#
# A state is one file of tensors (safetensors: nothing in it can run code), with the few numbers that belong to them in its header. Its name holds the step and a checksum of its content. It is written under another name, forced to the disk, and renamed in one step; only then is the oldest of three removed. So at every moment the last two whole states are there, and a file that is damaged later betrays itself: its content does not fit its name. Such a file is put aside, and the state before it is used.

# %%
#| exports
STATE = re.compile(r"state-(\d{9,})-([0-9a-f]{16})\.safetensors")


def _header(data: bytes) -> dict:
    "What `save` kept beside the tensors."
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["info"])


def _sync(folder: Path) -> None:
    "Force renamings in a folder to the disk."
    handle = os.open(folder, os.O_RDONLY)
    try: os.fsync(handle)
    finally: os.close(handle)


# %%
#| exports
def read_run(folder: str | os.PathLike) -> dict:
    "The configuration of the run in `folder`, with its note, or `ValueError` if there is none."
    file = Path(folder).expanduser() / "run.json"
    try: config = json.loads(file.read_text())
    except (OSError, ValueError) as e:
        raise ValueError(f"folder: expected a run, got {type(e).__name__} for {file}") from e
    require(isinstance(config, dict), "folder", str(folder), "a run with settings in run.json")
    return config


def _states(folder: Path) -> list[Path]:
    "The files of states in a folder, the newest last."
    found = [(STATE.fullmatch(p.name), p) for p in folder.iterdir()]
    return [p for m, p in sorted((int(m[1]), p) for m, p in found if m)]


def read_info(folder: str | os.PathLike) -> dict | None:
    "The numbers of the newest state in `folder` that can be read, without tensors and lock; `None` if none can."
    for file in reversed(_states(Path(folder).expanduser())):
        try:
            with file.open("rb") as f:
                size = f.read(8)
                return _header(size + f.read(min(int.from_bytes(size, "little"), 2**27)))
        except (OSError, ValueError, KeyError): continue
    return None


class RunFolder:
    """The folder of one training: `run.json` (its `config`), the last two states, a lock held until `close`.

    A folder that has a state is only taken with `resume`, and only for the same `config` (a dictionary that JSON can
    keep). Otherwise, and if another process has the lock, `ValueError`, and nothing in the folder has been changed.
    A `note` is kept in `run.json` too, and not compared.
    """

    def __init__(self, folder: str | os.PathLike, config: dict, resume: bool = False, note: dict | None = None):
        self.folder = Path(folder).expanduser()
        try: self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e: raise ValueError(f"run: expected a folder, got {folder} ({e.strerror})") from e
        self.lock = _lock(self.folder)
        try: self._claim(json.loads(json.dumps({**config, "note": note})), resume)
        except BaseException:
            self.close()
            raise

    def _claim(self, config: dict, resume: bool) -> None:
        "Write the configuration, or check that it is the same."
        file = self.folder / "run.json"
        if self.states():
            require(resume, "run", str(self.folder), "a new folder, or resume=True to go on with the run that is there")
            changed = differences({**read_run(self.folder), "note": None}, {**config, "note": None})
            require(not changed, "run", "other settings: " + "; ".join(changed), f"those of the run in {self.folder}")
        else: write_atomic(file, (json.dumps(config, indent=1) + "\n").encode())
        for rest in self.folder.glob(".*.tmp"): rest.unlink()  # of a process that was killed while it wrote

    def states(self) -> list[Path]:
        "The files of states, the newest last."
        return _states(self.folder)

    def close(self) -> None:
        "Give the lock back."
        self.lock.close()


# %%
#| exports
def save_state(run: RunFolder, step: int, tensors: dict[str, Tensor], info: dict) -> None:
    """Write a state, then remove all but the newest two.

    `OSError` if it cannot be written, say on a full disk; the states that were there are untouched.
    """
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    data = safetensors.save(whole, {"info": json.dumps(info)})
    name = f"state-{require_int(step, 'step', low=0):09d}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
    try:
        write_atomic(run.folder / name, data)
        _sync(run.folder)
    except OSError as e:
        kept = ", ".join(f"{int(STATE.fullmatch(p.name)[1])}" for p in run.states()) or "none"
        what = f"{run.folder}: expected room for a state of {len(data)} bytes at step {step}, got: {e.strerror}"
        raise OSError(e.errno, f"{what}; intact states, by step: {kept}; free some space and resume") from e
    for old in run.states()[:-2]: old.unlink()


def last_state(run: RunFolder) -> tuple[dict[str, Tensor], dict] | None:
    "The tensors and numbers of the newest whole state, or `None`; damaged ones are renamed to *.damaged."
    for file in reversed(run.states()):
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest()[:16] == STATE.fullmatch(file.name)[2]:
            return safetensors.load(data), _header(data)
        file.rename(file.with_name(file.name + ".damaged"))
    return None


# %% [markdown]
# Three states, of which two are kept; the newest is damaged by one bit, and the one before it is used.

# %%
room = tempfile.TemporaryDirectory()
run = RunFolder(f"{room.name}/a", old)
test_eq(last_state(run), None)
for step in (100, 200, 300):
    save_state(run, step, {"w": torch.full((3,), float(step))}, {"loss": 0.1 + step})
test_eq([STATE.fullmatch(p.name)[1] for p in run.states()], ["000000200", "000000300"])
tensors, info = last_state(run)
test_eq((tensors["w"].tolist(), info), ([300.0] * 3, {"loss": 300.1}))
sorted(p.name.split("-")[0] for p in run.folder.iterdir())

# %%
newest = run.states()[-1]
content = bytearray(newest.read_bytes())
content[-1] ^= 1
newest.write_bytes(content)
test_eq(last_state(run)[1], {"loss": 200.1})
test_eq([p.suffix for p in run.folder.glob("*.damaged")], [".damaged"])
run.close()

# %% [markdown]
# A run goes on with `resume=True` and the same settings. Without the word, with other settings, or while another process has the lock, there is a `ValueError` that says which.

# %%
with expect_fail(ValueError, contains="resume=True"): RunFolder(run.folder, old)
with expect_fail(ValueError, contains="model.z_dim: 8 -> 16"):
    RunFolder(run.folder, new, resume=True)

# %%
run = RunFolder(run.folder, old, resume=True)
test_eq(last_state(run)[1], {"loss": 200.1})
test_eq((read_info(run.folder), read_info(room.name)), ({"loss": 200.1}, None))

# %%
with expect_fail(ValueError, contains=f"used by process {os.getpid()}"):
    RunFolder(run.folder, old, resume=True)
with expect_fail(ValueError, contains="folder: expected a run"): read_run(room.name)

# %% [markdown]
# ## A full disk
#
# The operating system can be asked to refuse files beyond a size: to the program, that is a disk that runs full in the middle of a file. The state that does not fit leaves no trace, and the last good one is still there.

# %%
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
said = "intact states, by step: 200; free some space and resume"
try:
    with expect_fail(OSError, contains=said):
        save_state(run, 400, {"w": torch.zeros(10**6)}, {})
finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
test_eq((last_state(run)[1], list(run.folder.glob(".*"))), ({"loss": 200.1}, []))
save_state(run, 400, {"w": torch.zeros(10**6)}, {})  # there is room again
test_eq(last_state(run)[0]["w"].numel(), 10**6)
run.close()


# %% [markdown]
# ## What made it
#
# A number that cannot be made again is worth little, so every stored result of this project names the code that made it. `made` says all that can be known without asking: the day, the commit, the versions, the machine. The commit is that of the checkout which the package is a tracked part of; a plus means that files have been changed since. An installed package has no commit, only its version.

# %%
#| exports
@functools.cache
def _commit(folder: Path) -> str:
    "The commit at which `folder` is checked out, with + if tracked files differ; empty if it is not tracked."
    git = ["git", "--no-optional-locks", "-C", str(folder)]
    said = lambda *words: subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout.strip()
    try:
        said("ls-files", "--error-unmatch", ".")  # fails for a package that is installed inside a checkout
        return said("describe", "--always", "--exclude=*", "--dirty=+")
    except (OSError, subprocess.CalledProcessError): return ""


def made() -> dict[str, str | int]:
    """What makes the numbers of this process: date, commit, version, torch, machine (its kind), threads.

    `commit` is a short hash, as it was when a process first asked; + says that tracked files differ. An installed
    package has none, and no entry.
    """
    import scoreae

    commit = _commit(Path(scoreae.__file__).parent)
    return {"date": datetime.date.today().isoformat(), **({"commit": commit} if commit else {}),
            "version": scoreae.__version__, "torch": torch.__version__, "machine": platform.machine(),
            "threads": torch.get_num_threads()}  # fmt: skip


# %%
now = made()
test_eq((now["version"], now["torch"]), (scoreae.__version__, torch.__version__))
assert abs(datetime.date.fromisoformat(now["date"]) - datetime.date.today()).days < 2
assert re.fullmatch(r"[0-9a-f]{7,40}\+?", now.pop("commit", "0000000"))
test_eq(_commit(Path(room.name)), "")  # a folder of no checkout
list(now)

# %%
#| hide
room.cleanup()

# %% [markdown]
# ## What can go wrong
#
# * **A file system without locks.** Some network file systems ignore `flock`, and Windows has none: there, the library does not know how to keep a second process out, and on Windows it refuses to keep runs.
# * **States from another version.** Another version of torch may add in another order. The run goes on, but no longer bit for bit.
# * **Room for three.** A new state is whole before the oldest goes: the disk needs room for three states, each about four times the size of the weights.
# * **A plus is not a version.** It says that files differ from the commit, not how: commit first, then compute what is to be kept.
