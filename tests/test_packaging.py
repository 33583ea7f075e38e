"""The wheel holds exactly what the folders hold, and the installed command runs from anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "avatar": "avatar",
    **{name: f"avatar/{name}" for name in ("adapters", "backbone", "drivers", "recipes")},
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no old build folder of the checkout gets in."""
    source = tmp_path_factory.mktemp("source")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source / "dist")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((source / "dist").glob("*.whl"))


def test_the_wheel_holds_what_the_folders_hold(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == expected


def test_the_wheel_names_its_command_and_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = {
            name.rpartition("/")[2]: archive.read(name).decode()
            for name in archive.namelist()
            if "dist-info" in name
        }
    assert "avatar = avatar.cli:main" in info["entry_points.txt"]
    assert "License-Expression: Apache-2.0" in info["METADATA"]
    assert "Requires-Python: <3.13,>=3.10" in info["METADATA"]
    assert "LICENSE" in info


def test_an_unpacked_wheel_runs_elsewhere(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import avatar; print(avatar.__file__)"
    )
    code += "; from avatar.cli import main; sys.argv = ['avatar', '--version']; main()"
    # -S leaves the editable install out; the other packages come by their folder.
    packages = str(Path(pytest.__file__).parents[1])
    told = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.append({packages!r}); {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert str(tmp_path / "site") in told.stdout and "avatar-toolkit" in told.stdout
