"""Rows of a long experiment in one JSON file: rows that exist are skipped, so that a run can be resumed.

Every row says what made it (`made`: commit and date) and where its time went (`wall`: seconds of wall time by part).
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from scoreae.models.contract import write_atomic
from scoreae.use.runs import made
from scoreae.use.training import Fit

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"


def stamp() -> dict[str, str]:
    "Commit and date, as stored results keep them."
    now = made()
    return {k: now[k] for k in ("commit", "date") if k in now}


def wall(*fits: Fit, **more: float) -> dict[str, float]:
    "Seconds of wall time by part: those of trainings, summed, and others by name; to 0.1 s."
    total = Counter()
    for parts in (*(f.wall for f in fits), more): total.update(parts)
    return {k: round(v, 1) for k, v in total.items()}


def new_row(key: dict, make: Callable[[], dict]) -> dict:
    "`key`, what `make()` finds, what made it, and its `wall`: what `make` says, and the rest as evaluation."
    begin, when = time.perf_counter(), stamp()
    row = key | make()
    parts = row.pop("wall", {})
    rest = time.perf_counter() - begin - sum(parts.values())
    return row | {"made": when, "wall": parts | {"evaluation": round(max(rest, 0.0), 1)}}


def add_row(file: Path, key: dict, make: Callable[[], dict], **about) -> dict:
    "The row with the entries `key` of `file`; made, timed (CPU seconds) and written if it is not there."
    found = json.loads(file.read_text()) if file.exists() else {"rows": []}
    for row in found["rows"]:
        if all(row.get(k) == v for k, v in key.items()): return row
    begin, now = time.process_time(), made()
    row = new_row(key, make)
    row["CPU seconds"] = round(time.process_time() - begin, 1)
    machine = {"device": now["machine"], "torch": now["torch"], "threads": now["threads"]}
    found = found | machine | about | {"rows": [*found["rows"], row]}
    write_atomic(file, (json.dumps(found, indent=1) + "\n").encode())
    print(json.dumps(row)[:400], flush=True)
    return row


def fill_set(file: Path, name: str, command: str, rules: dict, keys: Iterable[dict], make: Callable[..., dict]) -> None:
    """Rows of the set `name` of `file`, which has several: one for each of `keys`, with what `make(**key)` finds.

    A row is written as soon as it is known. Rows that were made by the same `rules` are kept, whatever their keys.
    """
    found = json.loads(file.read_text()) if file.exists() else {"sets": {}}
    old, now = found["sets"].get(name, {}), made()
    rows = old["rows"] if old.get("rules") == rules else []
    for key in keys:
        if any(key.items() <= row.items() for row in rows): continue
        rows.append(new_row(key, lambda k=key: make(**k)))
        found["sets"][name] = {"command": command, "rules": rules, "rows": rows}
        found |= {"torch": now["torch"], "machine": now["machine"]}
        write_atomic(file, (json.dumps(found, indent=1) + "\n").encode())
        print(rows[-1], flush=True)
