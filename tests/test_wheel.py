"""What is installed: the package and nothing else, all of it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import advmix

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    source = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "advmix").rglob("*") if path.is_file()}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {name for name in source if "__pycache__" not in name}


def test_the_wheel_has_the_packages_version(wheel: Path) -> None:
    assert wheel.name == f"advmix-{advmix.__version__}-py3-none-any.whl"


def test_the_wheel_says_whose_photographs_its_generator_learnt_from(wheel: Path) -> None:
    (notice,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/licenses/NOTICE"))
    assert zipfile.ZipFile(wheel).read(notice) == (ROOT / "NOTICE").read_bytes()
