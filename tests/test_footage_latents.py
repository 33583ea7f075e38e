"""Prepared footage as latents: what is encoded, what is left out, and that adapters train on it."""

import json
from fractions import Fraction
from importlib.resources import files
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from avatar.adapters.adapter_file import FILE
from avatar.errors import UserError
from avatar.media import read_audio, read_video
from avatar.recipes import generator_adapter
from avatar.recipes.footage_latents import FRAMES, encode
from avatar.recipes.heldout import write_wav
from avatar.writer import VideoWriter

VAE = Path(str(files("avatar") / "weights/mini/vae.safetensors"))
SHAPES = {"clean": (16, 5, 16, 16), "pose": (16, 5, 16, 16), "audio": (5, 4, 10, 384), "codes": (5, 4, 48)}


def film(path: Path, frames: NDArray[np.uint8]) -> None:
    size = (frames.shape[2], frames.shape[1])
    length = Fraction(len(frames), 25)
    with VideoWriter(path, size=size, fps=Fraction(25), audio=[], seconds=length) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.fixture(scope="module")
def data(talking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speaking clips of a person; the one to train on has three pieces, in one of which the face is gone
    for a frame, and the other a piece and a bit of a second, and no sound."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "clips").mkdir()
    frames = np.stack(list(islice(read_video(talking), 4 * FRAMES + 9)))
    ours, other = frames[: 3 * FRAMES].copy(), frames[3 * FRAMES :]
    ours[FRAMES + 5] = 0
    film(folder / "clips/a.mp4", ours)
    film(folder / "clips/b.mp4", other)
    write_wav(folder / "clips/a.wav", read_audio(talking)[: 16_000 * 3 * FRAMES // 25], 16_000)
    index = [{"id": "a", "split": "train"}, {"id": "b", "split": "validation"}]
    (folder / "index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def latents(data: Path) -> Path:
    assert encode(data, data / "latents", "mini", VAE) == 1
    return data / "latents"


def test_a_piece_is_encoded_as_the_clips_of_the_factory_are(latents: Path) -> None:
    """Validation first; of the clip to train on the piece without a face is left out."""
    assert sorted(path.name for path in latents.glob("latent-*")) == [
        "latent-0.safetensors",
        "latent-1000.safetensors",
        "latent-1001.safetensors",
    ]
    silent, heard = (load_file(latents / f"latent-{number}.safetensors") for number in (0, 1001))
    for record, sound in ((silent, 0), (heard, 1)):
        assert {name: record[name].shape for name in SHAPES} == SHAPES
        assert record["heard"] == sound and record["audio"].any() == bool(sound)
        assert record["seen"] == 1 and record["codes"].any()


def test_what_is_read_bends_the_picture_towards_the_piece(latents: Path) -> None:
    """The driven reference must be nearer to the truth than the picture that it is bent from."""
    records = [load_file(path) for path in latents.glob("latent-*")]

    def away(name: str) -> float:
        """From the truth, on the face."""
        parts = [np.square(r["clean"].astype(np.float32) - r[name]) * r["face"] for r in records]
        return float(np.mean([part.mean() for part in parts]))

    assert away("driven") < 0.79 * away("reference")  # 0.84 where neither curves nor head were read


def test_what_is_there_is_kept(data: Path, latents: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in latents.iterdir()}
    assert encode(data, latents, "mini", VAE) == 1
    assert {path: path.stat().st_mtime_ns for path in latents.iterdir()} == before


def test_latents_of_other_clips_or_by_other_weights_are_refused(
    data: Path, latents: Path, tmp_path: Path
) -> None:
    """Their numbers would be taken by other clips, and one net would learn from two VAEs."""
    vae = tmp_path / "vae.safetensors"
    vae.write_bytes(VAE.read_bytes() + b" ")
    with pytest.raises(UserError, match="its vae is not what is given now"):
        encode(data, latents, "mini", vae)
    (tmp_path / "index.json").write_text(json.dumps([{"id": "a", "split": "validation"}]))
    (tmp_path / "clips").symlink_to(data / "clips")
    with pytest.raises(UserError, match="its list of clips is not what is given now"):
        encode(tmp_path, latents, "mini", VAE)


def test_footage_without_a_face_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/b.mp4").write_bytes((data / "clips/b.mp4").read_bytes())
    film(tmp_path / "clips/a.mp4", np.zeros((20, 64, 64, 3), np.uint8))
    (tmp_path / "index.json").write_text((data / "index.json").read_text())
    with pytest.raises(UserError, match="no clip of the split train shows a face for 17 frames"):
        encode(tmp_path, tmp_path / "latents", "mini", VAE)


def test_an_adapter_of_the_generator_trains_on_prepared_footage(
    data: Path, latents: Path, tmp_path: Path
) -> None:
    """What is encoded already is used, the clip for validation is held out."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/latents").symlink_to(latents)
    usual = ["steps=2", "warmup=1", "batch=1", "held_out=9", "probe_people=0", "log_every=1", "probe_every=2"]
    words = [f"data={data}", f"out={tmp_path}/run", *usual, "threads=1", "show_every=0"]
    losses = generator_adapter.main(["hybrid_adapter", *words])
    assert len(losses) == 2 and 0 < losses[0] < 0.5
    assert (tmp_path / "run" / FILE).exists()
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert any("held_out_expression" in row for row in log)
