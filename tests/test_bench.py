"""Stored numbers say what made them, each has its page, and rows are neither made twice nor left without a date."""

import datetime
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scoreae.use import runs
from scoreae.use.training import Fit

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))
from bench import __main__ as catalogue  # noqa: E402
from bench import stored  # noqa: E402

NUMBERS = [f for f in catalogue.files() if f.name != "metrics.json"]  # those of weights may be of other versions


@pytest.mark.parametrize("file", NUMBERS, ids=lambda f: f.stem)
def test_stored_numbers_say_what_made_them(file):
    found = json.loads(file.read_text())
    for one in found.get("sets", {"": found}).values():
        assert one["command"].split()[:2] in (["python", "-m"], ["scoreae", "demo"], ["scoreae", "bench"])
        told = catalogue.made({k: found[k] for k in ("made", "stored") if k in found} | one)
        assert datetime.date.fromisoformat(told["date"]) and re.match(r"[0-9a-f]{7}", told["commit"])
        rows = one.get("rows", [])
        rows = rows.values() if isinstance(rows, dict) else rows
        assert {"made", "stored"} & found.keys() or all("made" in r for r in rows), "rows that nobody knows of"


def test_only_data_is_no_experiment():
    every = {f for pattern in catalogue.STORED for f in ROOT.glob(pattern)}
    assert {f.name for f in every - set(catalogue.files())} == {"fashion-eight.json"}


def test_each_experiment_is_listed_with_a_page_that_exists():
    listed = catalogue.experiments()
    assert {r["file"] for r in listed} == {str(f.relative_to(ROOT)) for f in catalogue.files()}
    for r in listed: assert r["page"] and (ROOT / "nbs" / r["page"]).exists() and r["asks"], r
    run = subprocess.run([sys.executable, "-m", "bench"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()[2:]
    assert len(lines) == len(listed)
    for r, line in zip(listed, lines, strict=True): assert all(str(v) in line for v in r.values())


def test_a_page_that_reads_the_file_comes_first():
    pages = {r["experiment"]: r["page"] for r in catalogue.experiments()}
    assert pages["disks"] == "sami_claims/63_disks.ipynb" and pages["own-images"] == "together/81_short_training.ipynb"
    assert pages["demo"] == "results.md", "no notebook reads it: the page of results with its command"
    assert pages["steps"] == "use/41_training.ipynb", "no page reads it: the one that names its script"


def test_date_and_commit_of_rows_that_differ():
    of = lambda commit, day: {"commit": commit, "date": f"2026-01-{day}"}
    found = {"stored": of("old", 10), "rows": [{"made": of("new", 12)}, {"made": of("mid", 11)}]}
    assert catalogue.made(found) == {"date": "2026-01-12", "commit": "mid, new"}
    found["rows"].append({})
    assert catalogue.made(found) == {"date": "2026-01-12", "commit": "old, mid, new"}
    assert catalogue.made({"rows": {"a": {"made": {"date": "2026-01-12"}}}}) == {"date": "2026-01-12", "commit": ""}
    assert catalogue.made({}) == {"date": "", "commit": ""}


def test_wall_adds_up():
    one, two = (Fit(1, 1.0, 1, [], wall=w) for w in ({"start": 0.5, "forward": 1.26}, {"forward": 2.0, "end": 0.04}))
    assert stored.wall(one, two, evaluation=3.21) == {"start": 0.5, "forward": 3.3, "end": 0.0, "evaluation": 3.2}
    assert stored.wall() == {}


@pytest.fixture
def clock(monkeypatch):
    "A wall clock, and a commit of a day."
    at = [0.0]
    monkeypatch.setattr(stored.time, "perf_counter", lambda: at[0])
    now = {"date": "2026-01-02", "commit": "abcdef1", "version": "0", "torch": "2", "machine": "m", "threads": 1}
    monkeypatch.setattr(stored, "made", lambda: now)
    return at


def test_rows_are_made_once_and_say_what_made_them(tmp_path, clock, capsys):
    file, calls = tmp_path / "r.json", []
    file.write_text(json.dumps({"stored": {"commit": "0", "date": "0"}, "rows": [{"model": "a", "v": 1}]}))

    def make():
        calls.append(1)
        clock[0] += 10.0
        return {"v": 2, "wall": {"forward": 4.0}}

    for model in "abb": stored.add_row(file, {"model": model}, make, command="c")
    found = json.loads(file.read_text())
    assert len(calls) == 1 and found["rows"][0] == {"model": "a", "v": 1} and found["command"] == "c"
    assert found["stored"] == {"commit": "0", "date": "0"} and found["torch"] == "2"
    row = found["rows"][1]
    assert row.pop("CPU seconds") >= 0
    made, wall = {"commit": "abcdef1", "date": "2026-01-02"}, {"forward": 4.0, "evaluation": 6.0}
    assert row == {"model": "b", "v": 2, "made": made, "wall": wall}


def test_sets_keep_what_is_beside_them(tmp_path, clock, capsys):
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"stored": {"commit": "0"}, "sets": {"old": {"rows": []}}}))
    keys = [{"seed": 0}, {"seed": 1}]
    for _ in range(2): stored.fill_set(file, "new", "c", {"steps": 1}, keys, lambda seed: {"v": seed})
    found = json.loads(file.read_text())
    assert found["stored"] == {"commit": "0"} and list(found["sets"]) == ["old", "new"]
    made = {"commit": "abcdef1", "date": "2026-01-02"}
    want = [{"seed": s, "v": s, "made": made, "wall": {"evaluation": 0.0}} for s in (0, 1)]
    assert found["sets"]["new"] == {"command": "c", "rules": {"steps": 1}, "rows": want}


def test_without_git_there_is_no_commit(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(stored, "made", lambda: {"date": "2026-01-02"})
    assert stored.new_row({}, dict) == {"made": {"date": "2026-01-02"}, "wall": {"evaluation": 0.0}}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert runs._commit.__wrapped__(ROOT / "scoreae") == ""


def test_commit_of_a_checkout(tmp_path):
    "A plus for tracked files that differ; nothing for a package that somebody's checkout does not track."
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    try: git = lambda *w: subprocess.run(["git", "-C", tmp_path, *who, *w], check=True, capture_output=True, text=True)
    except FileNotFoundError: pytest.skip("no git")
    git("init", "-q")
    for folder in ("package", "installed"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("")
    assert runs._commit.__wrapped__(tmp_path / "package") == ""
    git("add", "package")
    git("commit", "-q", "-m", "x", "--no-gpg-sign")
    commit = git("log", "-1", "--format=%h").stdout.strip()
    assert runs._commit.__wrapped__(tmp_path / "package") == commit
    assert runs._commit.__wrapped__(tmp_path / "installed") == ""
    (tmp_path / "package" / "__init__.py").write_text("1")
    assert runs._commit.__wrapped__(tmp_path / "package") == f"{commit}+"
