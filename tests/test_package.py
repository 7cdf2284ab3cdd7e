"""The wheel stands on its own: built, put beside its declared dependencies only, imported, offline."""

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), "--no-isolation", str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return next(out.glob("*.whl"))


def declared(name: str, seen: set[str]) -> set[str]:
    "The distributions that a wheel of `name` pulls in, extras left out, among those installed here."
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen: return seen
    try: requires = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError: return seen  # for another platform
    seen.add(key)
    for requirement in requires:
        if "extra ==" not in requirement: declared(re.match(r"[\w.-]+", requirement)[0], seen)
    return seen


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    "An empty environment with the wheel, and links to the distributions that it declares, and nothing else."
    there = tmp_path_factory.mktemp("env") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(there)], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(there), "platbase": str(there)}))
    home = Path(sysconfig.get_path("purelib"))
    for name in declared("scoreae", set()) - {"scoreae"}:
        tops = {f.parts[0] for f in importlib.metadata.files(name) or [] if f.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (site / top).exists(): (site / top).symlink_to(home / top)
    zipfile.ZipFile(wheel).extractall(site)
    return there


def python(environment: Path, code: str) -> subprocess.CompletedProcess:
    command = [environment / "bin" / "python", "-I", "-c", code]
    return subprocess.run(command, cwd=environment, capture_output=True, text=True)


def test_wheel_contains_the_package_only(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.split("/")[0] for n in names}
    assert tops == {"scoreae", next(t for t in tops if t.endswith(".dist-info"))}
    assert not any(n.endswith(".ipynb") or "/test" in n for n in names)
    assert {"scoreae/__init__.py", "scoreae/paper.mplstyle", "scoreae/_modidx.py"} <= set(names)


OFFLINE = """
import socket
def no(*a): raise RuntimeError('a connection was opened')
socket.socket.connect = socket.getaddrinfo = no
"""


def test_import_needs_only_what_is_declared(environment):
    code = OFFLINE + (
        "import scoreae as sa, sys\n"
        "assert 'site-packages' in sa.__file__ and all(hasattr(sa, n) for n in sa.__all__)\n"
        "assert not {'matplotlib', 'torchvision', 'sklearn', 'nbdev', 'IPython'} & set(sys.modules)\n"
    )
    run = python(environment, code)
    assert run.returncode == 0, run.stderr


def test_every_module_imports_alone(environment):
    files = (p.relative_to(ROOT).with_suffix("") for p in (ROOT / "scoreae").rglob("[!_]*.py"))
    modules = sorted(".".join(p.parts) for p in files)
    code = OFFLINE + f"import importlib\nfor m in {modules}: importlib.import_module(m)\n"
    run = python(environment, code)
    assert run.returncode == 0, run.stderr


def test_train_and_report_in_the_empty_environment(environment):
    code = OFFLINE + (
        "import scoreae as sa\nfrom scoreae.use.pictures import plot_rows\n"
        "x = sa.data.digits()\nm = sa.PCA((1, 8, 8), 4)\nsa.fit(m, x)\nplot_rows({'a': m.reconstruct(x[:3])}).png(50)\n"
    )
    run = python(environment, code)
    assert run.returncode == 0, run.stderr


def test_import_is_quick(environment):
    "At most 2.5 s more than torch itself."
    code = "import time, torch; begin = time.time(); import scoreae; print(time.time() - begin)"
    run = python(environment, code)
    assert run.returncode == 0 and float(run.stdout) < 2.5, run.stdout + run.stderr
