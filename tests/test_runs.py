"""Trainings that are killed, crowded, starved of disk, and spread over processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import scoreae as sa
from scoreae.use import training
from scoreae.use.runs import RunFolder, last_state

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
TRAIN = """
import sys
import torch
import scoreae as sa

kind, folder, steps, options = sys.argv[1], sys.argv[2], int(sys.argv[3]), eval(sys.argv[4])
torch.manual_seed(0)
model = getattr(sa, kind)((1, 8, 8), 4, width=8)
x = sa.data.to_uint8(sa.data.digits())
if "slow" in options:
    import time
    time_step, loss = options.pop("slow"), model.loss
    model.loss = lambda *a: (time.sleep(time_step), loss(*a))[1]
run = None if folder == "-" else folder
done = sa.fit(model, x, steps=steps, run=run, resume=True, every=5, log_every=3, progress=False, **options)
"""


def command(kind, folder, steps, **options) -> list:
    return [sys.executable, "-c", TRAIN, kind, str(folder), str(steps), repr(options)]


def weights(folder) -> dict:
    return {k: v for k, v in sa.load(folder).state_dict().items()}


def history(folder) -> dict:
    run = RunFolder(folder, json.loads((folder / "run.json").read_text()), resume=True)
    try: return {k: last_state(run)[1][k] for k in ("history", "val_history", "steps", "ended")}
    finally: run.close()


def owned(folder, pid: int) -> bool:
    try: return f"process {pid} " in (folder / "lock").read_text()
    except OSError: return False


@pytest.mark.parametrize("kind", ["SAMI", "DBAE"])
def test_killed_at_random_moments_it_ends_with_the_same_bits(kind, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(kind, whole, 40), env=ENV, check=True, capture_output=True)
    moments, ends = random.Random(kind), []
    while not ends or ends[-1] != 0:
        with subprocess.Popen(command(kind, broken, 40, slow=0.02), env=ENV, stderr=subprocess.PIPE) as process:
            if len(ends) < 4:
                while process.poll() is None and not owned(broken, process.pid): time.sleep(0.01)
                time.sleep(moments.uniform(0.05, 0.9))
                process.send_signal(signal.SIGKILL)
            ends.append(process.wait(timeout=120))
            assert ends[-1] in (0, -signal.SIGKILL), process.stderr.read().decode()[-2000:]
    assert len(ends) >= 3, "it was killed at least twice"
    want, got = weights(whole), weights(broken)
    assert all(torch.equal(v, got[k]) for k, v in want.items())
    assert history(whole) == history(broken)
    assert len(list(broken.glob("state-*.safetensors"))) == 2 and not list(broken.glob(".*.tmp"))


def test_a_second_process_is_kept_out(tmp_path):
    first = subprocess.Popen(command("AE", tmp_path, 10_000, slow=0.01), env=ENV, stderr=subprocess.PIPE)
    try:
        while not list(tmp_path.glob("state-*")) and first.poll() is None: time.sleep(0.05)
        second = subprocess.run(command("AE", tmp_path, 10_000), env=ENV, capture_output=True, text=True)
        assert second.returncode == 1 and f"used by process {first.pid} on" in second.stderr
        assert first.poll() is None, "the first goes on"
    finally:
        first.kill()
        first.wait()
        first.stderr.close()


FULL = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
def fill(step, model):
    if step == 20: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
"""


def test_a_full_disk_stops_with_the_last_state_intact(tmp_path):
    code = TRAIN.replace("done = ", FULL + "options['callback'] = fill\ndone = ")
    starved = [sys.executable, "-c", code, "AE", str(tmp_path / "a"), "40", "{}"]
    run = subprocess.run(starved, env=ENV, capture_output=True, text=True)
    assert run.returncode == 1 and "intact states, by step: 15, 20; free some space and resume" in run.stderr
    assert not list((tmp_path / "a").glob(".*.tmp"))
    for folder in ("a", "b"): subprocess.run(command("AE", tmp_path / folder, 40), env=ENV, check=True)
    want, got = weights(tmp_path / "b"), weights(tmp_path / "a")
    assert all(torch.equal(v, got[k]) for k, v in want.items())


def test_another_training_is_refused_and_nothing_changes(tmp_path, digits):
    x = digits["train"][0]
    make = lambda **kw: sa.AE((1, 8, 8), 4, **{"width": 8, **kw})
    sa.fit(make(), x, steps=4, run=tmp_path, progress=False)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file() and p.name != "lock"}
    cases = [("model.config.width: 8 -> 16", make(width=16), {}), ("training.seed: 0 -> 1", make(), {"seed": 1}),
             ("training.steps: 4 -> 5", make(), {"steps": 5}), ("data.sha256", make(), {"x": -x})]  # fmt: skip
    for change, model, kw in cases:
        with pytest.raises(ValueError, match=change):
            sa.fit(model, **{"x": x, "steps": 4, "run": tmp_path, "resume": True, "progress": False, **kw})
    with pytest.raises(ValueError, match="resume=True"): sa.fit(make(), x, steps=4, run=tmp_path, progress=False)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file() and p.name != "lock"} == before


def test_a_time_budget_goes_on(tmp_path, digits):
    class Stop(Exception): pass

    def stop(step, model): raise Stop

    kw = {"minutes": 0.1, "run": tmp_path, "every": 1, "progress": False}
    with pytest.raises(Stop): sa.fit(sa.AE((1, 8, 8), 4, width=8), digits["train"][0], callback=stop, **kw)
    done = sa.fit(sa.AE((1, 8, 8), 4, width=8), digits["train"][0], resume=True, **kw)
    assert done.steps >= 2 and done.seconds >= 6


def test_losses_go_to_tensorboard_if_it_is_there(tmp_path, digits, monkeypatch):
    class Board(list):
        def add_scalar(self, name, value, step): self.append((name, step, value))
        def close(self): self.append("closed")

    board = Board()
    monkeypatch.setattr(training, "_board", lambda folder, step: board)
    kw = {"steps": 6, "log_every": 2, "every": 3, "run": tmp_path, "progress": False}
    done = sa.fit(sa.AE((1, 8, 8), 4, width=8), digits["train"][0], val=digits["val"][0], **kw)
    assert board[-1] == "closed" and done.history and done.val_history
    assert [b[2] for b in board[:-1] if b[0] == "train/loss"] == [h["loss"] for h in done.history]
    assert [b[1:] for b in board[:-1] if b[0] == "val/loss"] == [(h["step"], h["loss"]) for h in done.val_history]


TWO = """
import sys
import torch
import scoreae as sa

torch.set_num_threads(1)
for kind in ("SAMI", "DBAE", "AE"):
    torch.manual_seed(0)
    model = getattr(sa, kind)((1, 8, 8), 4, width=8)
    done = sa.fit(model, sa.data.digits(), steps=8, batch_size=32, accumulate=int(sys.argv[2]), device="cpu",
                  progress=False, log_every=2, run=f"{sys.argv[1]}/{kind}", every=4)
"""


def test_two_processes_are_one(tmp_path):
    pytest.importorskip("accelerate")
    (tmp_path / "two.py").write_text(TWO)
    script = str(tmp_path / "two.py")
    one = [sys.executable, script, str(tmp_path / "one"), "2"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    launch += [str(tmp_path / "two"), "1"]
    for run in (one, launch):
        done = subprocess.run(run, env=ENV, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    for kind in ("SAMI", "DBAE", "AE"):
        want, got = weights(tmp_path / "one" / kind), weights(tmp_path / "two" / kind)
        apart = max(float((v.double() - got[k].double()).abs().max()) for k, v in want.items() if "prior" not in k)
        assert apart < 1e-5, (kind, apart)


def test_memory_is_flat_while_the_data_grow(tmp_path):
    if not Path("/proc/self/status").exists(): pytest.skip("reads /proc")
    code = """
import sys, numpy as np, torch, scoreae as sa
n, file = int(sys.argv[1]), sys.argv[2]
np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(n, 1, 16, 16))
torch.manual_seed(0)
sa.fit(sa.AE((1, 16, 16), 4, width=8), np.load(file, mmap_mode="r"), steps=30, progress=False)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["RssAnon"].split()[0]) / 1024)
"""
    used = {}
    for n in (1_000, 1_000_000):
        arguments = [sys.executable, "-c", code, str(n), str(tmp_path / f"{n}.npy")]
        run = subprocess.run(arguments, env=ENV, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-2000:]
        used[n] = float(run.stdout)
    assert used[1_000_000] - used[1_000] < 100, used  # megabytes; the file has 256
