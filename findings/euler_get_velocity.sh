#!/usr/bin/env bash
# EulerDiscreteScheduler.get_velocity reads its noise table backwards.
#
# Library:  diffusers 0.42.1, with torch 2.15.0 and numpy 2.4.6, Python 3.11
#
# Expected: the velocity of an image x with noise e at timestep t is sqrt(a[t]) e - sqrt(1 - a[t]) x, with
#           a = alphas_cumprod. Two schedulers with the same table give the same velocity, and what get_velocity
#           takes for the noise level at t is what add_noise takes. With x = 1 and e = 0 the velocity is near -1
#           at t = 999, where nearly all is noise, and near 0 at t = 0.
#
# Happens:  the timesteps fall from 999 to 0, alphas_cumprod is stored for t = 0 to 999, and get_velocity uses the
#           position of t in the first list as an index into the second: a[999 - t] in place of a[t]. The result is
#           right at no timestep, nearly right only in the middle, and exchanged at the ends. add_noise of the same
#           scheduler is right: the share of noise in what it returns, sigma / sqrt(1 + sigma^2), is DDPM's.
#
# Seen:
#   same table: True
#   t=999  Euler velocity -0.0100  DDPM velocity -1.0000  noise share in add_noise: Euler 1.0000  DDPM 1.0000
#   t=500  Euler velocity -0.9599  DDPM velocity -0.9603  noise share in add_noise: Euler 0.9603  DDPM 0.9603
#   t=0    Euler velocity -1.0000  DDPM velocity -0.0100  noise share in add_noise: Euler 0.0100  DDPM 0.0100
#   Euler velocity at t is DDPM's at 999 - t, for all 1000 timesteps: True
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
changed() { echo "The behaviour has changed: $1" >&2; exit 1; }
sed -n '/^# Seen:/,/^set /s/^#   //p' "$0" > "$folder/expected"

python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q diffusers==0.42.1 torch==2.15.0 numpy==2.4.6
cd "$folder"
venv/bin/python -I - > seen <<'PY' || changed "the program stopped with an error"
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler

euler, ddpm = EulerDiscreteScheduler(), DDPMScheduler()
one, zero = torch.ones(1, 1), torch.zeros(1, 1)
print("same table:", torch.equal(euler.alphas_cumprod, ddpm.alphas_cumprod))


def velocities(t):
    """Of x = 1 without noise; Euler asks for its own timesteps, which are floats."""
    return (euler.get_velocity(one, zero, torch.tensor([float(t)])).item(),
            ddpm.get_velocity(one, zero, torch.tensor([t])).item())


for t in (999, 500, 0):
    ours, theirs = velocities(t)
    sigma = euler.add_noise(zero, one, torch.tensor([float(t)])).item()
    share = ddpm.add_noise(zero, one, torch.tensor([t])).item()
    print(f"t={t:<4} Euler velocity {ours:.4f}  DDPM velocity {theirs:.4f}  noise share in add_noise: "
          f"Euler {sigma / (1 + sigma**2) ** 0.5:.4f}  DDPM {share:.4f}")
reversed_ = all(abs(velocities(t)[0] - velocities(999 - t)[1]) < 1e-5 for t in range(1000))
print("Euler velocity at t is DDPM's at 999 - t, for all 1000 timesteps:", reversed_)
PY
cat seen
diff expected seen >&2 || changed "the output differs from the one in the header (< header, > now)"
echo "As described."
