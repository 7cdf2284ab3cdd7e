#!/usr/bin/env bash
# timestep_spacing="trailing" gives one timestep too many, -1, for some numbers of steps.
#
# Library:  diffusers 0.42.1, with torch 2.15.0 and numpy 2.4.6, Python 3.11
#
# Expected: set_timesteps(n) gives n timesteps between 0 and 999, whatever n from 1 to 1000.
#
# Happens:  for 62 of these n it gives n + 1, and the last one is -1. The timesteps are
#           round(np.arange(1000, 0, -1000 / n)) - 1; where 1000 / n is not exact, the last value can lie a rounding
#           error beside 0, and arange keeps it. A sampling loop over `timesteps` then takes a step from t = -1. DDIM
#           reads alphas_cumprod[-1], which in Python is the last entry, the noisiest level, though the image is
#           finished: it divides by sqrt(alphas_cumprod[999]) = 0.00635, and the default clip_sample cuts the result
#           to 1. Here the image is 0.5 everywhere and the predicted noise 0, so the last step should leave it nearly
#           as it is, as it does with 60 steps.
#
# Seen:
#   DDIMScheduler           62 of 1000 step counts, first 61, 103, 121, 122; one timestep too many: True; it is -1: True
#   DDPMScheduler           62 of 1000 step counts, first 61, 103, 121, 122; one timestep too many: True; it is -1: True
#   EulerDiscreteScheduler  62 of 1000 step counts, first 61, 103, 121, 122; one timestep too many: True; it is -1: True
#   np.arange(1000, 0, -1000 / 61): 62 values, the last between -1e-9 and 1e-9: True
#   DDIM, 60 steps: last timesteps 49, 32, 16; alphas_cumprod there 0.99560; last step turns 0.500 into 0.501
#   DDIM, 61 steps: last timesteps 32, 15, -1; alphas_cumprod there 0.00004; last step turns 0.500 into 1.000
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
changed() { echo "The behaviour has changed: $1" >&2; exit 1; }
sed -n '/^# Seen:/,/^set /s/^#   //p' "$0" > "$folder/expected"

python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q diffusers==0.42.1 torch==2.15.0 numpy==2.4.6
cd "$folder"
venv/bin/python -I - > seen <<'PY' || changed "the program stopped with an error"
import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler

for kind in (DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler):
    scheduler = kind(timestep_spacing="trailing")
    odd = {}
    for n in range(1, 1001):
        scheduler.set_timesteps(n)
        if len(scheduler.timesteps) != n: odd[n] = scheduler.timesteps.tolist()
    print(f"{kind.__name__:<23} {len(odd)} of 1000 step counts, first {', '.join(map(str, list(odd)[:4]))}; "
          f"one timestep too many: {all(len(t) == n + 1 for n, t in odd.items())}; "
          f"it is -1: {all(t[-1] == -1 for t in odd.values())}")

values = np.arange(1000, 0, -1000 / 61)
print(f"np.arange(1000, 0, -1000 / 61): {len(values)} values, the last between -1e-9 and 1e-9:", abs(values[-1]) < 1e-9)

ddim = DDIMScheduler(timestep_spacing="trailing")
for n in (60, 61):
    ddim.set_timesteps(n)
    last, y = ddim.timesteps[-1], torch.full((1, 1, 8, 8), 0.5)
    after = ddim.step(torch.zeros_like(y), last, y).prev_sample
    assert after.min() == after.max()
    print(f"DDIM, {n} steps: last timesteps {', '.join(map(str, ddim.timesteps[-3:].tolist()))}; alphas_cumprod there "
          f"{ddim.alphas_cumprod[last].item():.5f}; last step turns 0.500 into {after.max().item():.3f}")
PY
cat seen
diff expected seen >&2 || changed "the output differs from the one in the header (< header, > now)"
echo "As described."
