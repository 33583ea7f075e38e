"""`avatar recipes` and `avatar finetune`: the list, copies that run, and what is refused."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_avatar

from avatar.errors import UserError
from avatar.recipes import catalogue, finetune

FOLDER = Path(catalogue.__file__).parent


def test_every_recipe_is_listed_with_its_purpose_and_its_program() -> None:
    found = {recipe.name: recipe for recipe in catalogue.recipes()}
    assert {"vae", "generator", "decoder", "speech", "expression", "audio_adapter"} <= found.keys()
    assert not {"visemes", "captions"} & found.keys()  # tables, no recipes
    for recipe in found.values():
        assert recipe.program.exists(), recipe
        assert len(recipe.purpose) > 20 and not recipe.purpose.startswith("#"), recipe
        header = recipe.settings.read_text("utf8").partition("\nout:")[0]
        assert "# Data:" in header and "# Measured" in header and re.search(r"\d (s|minutes) of proc", header)
    pairs = [path for path in FOLDER.glob("*.py") if path.with_suffix(".yaml").exists()]
    programs = {path.stem for path in pairs if "def main(words: list[str])" in path.read_text()}
    assert programs and programs <= {recipe.program.stem for recipe in found.values()}


def test_the_commands_list_show_and_name_the_nearest(tmp_path: Path) -> None:
    told = run_avatar("recipes", "ls")
    assert told.code == 0
    assert [row.split()[0] for row in told.stdout.splitlines()] == [r.name for r in catalogue.recipes()]
    told = run_avatar("recipes", "show", "vae")
    assert told.stdout == (FOLDER / "vae.yaml").read_text() and "# px, side" in told.stdout
    told = run_avatar("recipes", "show", "audio-adaptor")
    assert (told.code, told.stdout) == (2, "")
    assert told.stderr.startswith("avatar: audio-adaptor: no such recipe; did you mean audio_adapter?")


def test_a_copied_recipe_reads_the_settings_beside_it(tmp_path: Path) -> None:
    told = run_avatar("recipes", "cp", "vae", tmp_path / "mine")
    assert told.code == 0 and told.stdout.startswith(f"{tmp_path}/mine.py and {tmp_path}/mine.yaml")
    settings = tmp_path / "mine.yaml"
    settings.write_text(settings.read_text().replace("data: data/clips", f"data: {tmp_path}/nothing"))
    done = subprocess.run(
        [sys.executable, "mine.py", "batch=3"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"avatar: {tmp_path}/nothing: 0 clips, more than 16 are needed" in done.stderr
    done = subprocess.run([sys.executable, "mine.py", "bach=3"], cwd=tmp_path, capture_output=True, text=True)
    assert "avatar: bach: recipe mine has no such setting; did you mean batch?" in done.stderr


def test_a_copy_replaces_nothing_and_needs_a_name_that_runs(tmp_path: Path) -> None:
    recipe = catalogue.find("speech")
    assert catalogue.copy(recipe, tmp_path) == (tmp_path / "speech.py", tmp_path / "speech.yaml")
    with pytest.raises(UserError, match=r"speech.py: there already"):
        catalogue.copy(recipe, tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        catalogue.copy(recipe, tmp_path / "none/speech")
    with pytest.raises(UserError, match="without dots, dashes"):
        catalogue.copy(recipe, tmp_path / "my-speech")
    assert len(list(tmp_path.iterdir())) == 2


def test_fine_tuning_runs_a_recipe_by_its_name(tmp_path: Path) -> None:
    told = run_avatar("finetune", "vae", "--data", tmp_path, "--out", tmp_path / "run", "held_out=4")
    assert told.code == 2
    assert told.stderr == f"avatar: {tmp_path}: 0 clips, more than 4 are needed\n"
    with pytest.raises(UserError, match="the first word names a recipe"):
        finetune.main(["data=x"])
    with pytest.raises(UserError, match="did you mean vae"):
        finetune.main(["vay"])
