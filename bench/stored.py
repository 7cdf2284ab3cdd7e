"""Rows of a long experiment in one JSON file: rows that exist are skipped, so that a run can be resumed."""

import json
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from scoreae.models.contract import write_atomic

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"


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


def fill_set(file: Path, name: str, command: str, rules: dict, keys: Iterable[dict], make: Callable[..., dict]) -> None:
    """Rows of the set `name` of `file`, which has several: one for each of `keys`, with what `make(**key)` finds.

    A row is written as soon as it is known. Rows that were made by the same `rules` are kept, whatever their keys.
    """
    sets = json.loads(file.read_text())["sets"] if file.exists() else {}
    old = sets.get(name, {})
    rows = old["rows"] if old.get("rules") == rules else []
    for key in keys:
        if any(key.items() <= row.items() for row in rows): continue
        begin = time.perf_counter()
        rows.append(key | make(**key))
        sets[name] = {"command": command, "rules": rules, "rows": rows}
        result = {"torch": torch.__version__, "machine": platform.machine(), "sets": sets}
        write_atomic(file, (json.dumps(result, indent=1) + "\n").encode())
        print(f"{time.perf_counter() - begin:.0f} s", rows[-1], flush=True)
