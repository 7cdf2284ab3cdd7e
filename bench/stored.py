"""Rows of a long experiment in one JSON file: rows that exist are skipped, so that a run can be resumed."""

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scoreae.autoencoder import write_atomic

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"


def add_row(file: Path, key: dict, make: Callable[[], dict], **about) -> dict:
    "The row with the entries `key` of `file`; made, timed (CPU seconds) and written if it is not there."
    found = json.loads(file.read_text()) if file.exists() else {"rows": []}
    for row in found["rows"]:
        if all(row.get(k) == v for k, v in key.items()): return row
    begin = time.process_time()
    row = key | make()
    row["CPU seconds"] = round(time.process_time() - begin, 1)
    machine = {"device": platform.machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    found = found | machine | about | {"rows": [*found["rows"], row]}
    write_atomic(file, (json.dumps(found, indent=1) + "\n").encode())
    print(json.dumps(row)[:400], flush=True)
    return row
