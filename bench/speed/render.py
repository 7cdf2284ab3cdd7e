"""Images drawn per second of one core's time, at 32x32; writes bench/speed/render.json.

    python -m bench.speed.render [--size 32] [--images 10000] [--rounds 5]

Processor time of one thread is counted, not the clock on the wall, so that other work on the machine matters less;
what it does to caches and frequency remains. Minimum, median and maximum over the rounds are given.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

import scoreae as sa
from bench.stored import stamp


def contenders(n: int, size: int) -> dict:
    "What is drawn, by name: functions without arguments that draw `n` images."
    digits = sa.data.digits("test")
    return {
        "disks": lambda: sa.data.disks(n, size),
        "sprites, soft": lambda: sa.data.sprites(n, size),
        "sprites, binary on the grid": lambda: sa.data.sprites(n, size, grid=True, soft=False),
        "clips of a moving heart": lambda: sa.data.clips("heart", n // 10, 10, size=size),
        "clips of turning digits": lambda: sa.data.clips(digits, n // 10, 10, motion="rotate", size=size),
    }


def seconds(draw) -> float:
    begin = time.process_time()
    draw()
    return time.process_time() - begin


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in [("size", 32), ("images", 10000), ("rounds", 5)]:
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--out", default=str(Path(__file__).with_name("render.json")))
    a = p.parse_args()
    torch.set_num_threads(1)
    rounds = [{k: seconds(draw) for k, draw in contenders(a.images, a.size).items()} for _ in range(a.rounds + 1)][1:]
    rates = {k: [a.images / r[k] for r in rounds] for k in rounds[0]}
    result = {
        "made": stamp(),
        "command": f"python -m bench.speed.render --size {a.size} --images {a.images} --rounds {a.rounds}",
        "device": f"one core of {platform.machine()}", "torch": torch.__version__,
        "images per second of processor time": {
            k: {f.__name__: round(f(v)) for f in (min, statistics.median, max)} for k, v in rates.items()
        },
    }
    Path(a.out).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__": main()
