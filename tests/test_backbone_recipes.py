"""Recipes of the backbone: clips are encoded once, then a few steps of every stage on them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from small_run import equal, state
from tiny import picture
from torch import Tensor

from avatar import ffmpeg, weights
from avatar.backbone import flow
from avatar.backbone.checkpoint import load, save
from avatar.backbone.dit import DiT, DiTConfig, FinalLayer, Modulation
from avatar.backbone.precision import fast_dtype
from avatar.backbone.vae import CausalVAE
from avatar.errors import UserError
from avatar.loading import find
from avatar.recipes import backbone, backbone_latents, distill
from avatar.recipes.backbone import SIZES, BackboneSettings, Told, predict, tell, velocity_error
from avatar.recipes.captioned import read_captioned, told
from avatar.recipes.encoded import EncodedReader, EncodedSet, Place, chosen
from avatar.recipes.lora import LowRank, LowRankConfig
from avatar.recipes.settings import read_settings
from avatar.recipes.shards import write
from avatar.recipes.unfreezing import Unfreezing
from avatar.releases import RELEASES
from avatar.render import pixels

VAE = Path(str(files("avatar"))) / "weights/mini/vae.safetensors"  # 16 channels, as the public one has
SIDE, FRAMES = 96, 21
CLIPS = 5  # the first is kept for validation

# Losses of three steps from the settings of each YAML, in float32.
LOSSES = {
    "image_256": [3.157409, 3.005505, 2.837219],
    "image_mixed": [3.262650, 3.140418, 2.920962],
    "video_short_low": [3.296408, 3.032647, 2.856630],
    "video_long_low": [3.296408, 3.032647, 2.856630],
    "video_long_high": [3.121489, 3.246282, 2.983248],
    "finetune_full": [3.261933, 3.304828, 3.055394],
    "lora": [3.074471, 3.131253, 3.083809],
}
CLOSE = 3e-3 if fast_dtype() == torch.float32 else 3e-2


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Factory clips that move by one px a frame; the last two say the same."""
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(CLIPS):
        whole = picture(SIDE + FRAMES, seed)
        frames = np.stack([whole[k : k + SIDE, k : k + SIDE] for k in range(FRAMES)])
        facts = json.dumps({"gender": "man", "hair": f"style {min(seed, 3)}", "light": "soft"})
        write({"frames": frames}, folder / f"clip-{seed}.safetensors", {"facts": facts})
    return folder


@pytest.fixture(scope="module")
def encoded(
    clips: Path, checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("encoded") / "encoded"
    backbone_latents.main(_encoding(clips, checkpoints("hunyuan"), out))
    return out


def _encoding(clips: Path, weights_folder: Path, out: Path, *words: str) -> list[str]:
    usual = ["durations=[1, 9]", "scales=[64, 96]", "ratios=[1.0]", "windows=2", "shard=3", f"vae={VAE}"]
    return [f"data={clips}", f"weights={weights_folder}", f"out={out}", *usual, *words]


# ---- what is encoded ---------------------------------------------------------------------------


def test_every_clip_goes_to_every_bucket_that_it_fills(encoded: Path) -> None:
    found = {path.stem for path in encoded.glob("*-*.safetensors")}
    # One clip of validation and four to train, two windows each: 2 and 8 samples, in files of three.
    buckets = [f"{t}x{side}x{side}" for t in (1, 9) for side in (64, 96)]
    wanted = {f"validation-{bucket}-0000" for bucket in buckets}
    wanted |= {f"train-{bucket}-000{i}" for bucket in buckets for i in range(3)}
    # Nothing and four different captions.
    assert found == wanted | {"text-0000", "text-0001"}
    data = EncodedSet(encoded)
    assert len(data.places("train")) == 32 and len(data.places("validation")) == 8
    assert data.sizes == (16, 32, 24)  # channels of the VAE, and of the small text encoders


def test_latents_are_those_of_the_window_at_the_buckets_size(encoded: Path, clips: Path) -> None:
    found = load_file(encoded / "train-9x64x64-0000.safetensors")
    assert found["latents"].shape == (3, 16, 3, 8, 8) and found["latents"].dtype == torch.float16
    with safe_open(clips / "clip-1.safetensors", "np") as file:
        frames = file.get_tensor("frames")
    small = pixels(np.stack([np.array(Image.fromarray(frame).resize((64, 64), 2)) for frame in frames]))
    with torch.no_grad():
        decoded = load(CausalVAE, VAE).decode(found["latents"][:2].float())
    # The second of two windows ends where the clip ends; pictures that move by 12 px differ by more than 0.3.
    for window, start in enumerate((0, 12)):
        errors = [(decoded[window] - small[0, :, at : at + 9]).abs().mean() for at in (start, 12 - start)]
        assert errors[0] < 0.15 < 0.3 < errors[1]


def test_a_run_that_was_ended_goes_on_and_other_settings_are_refused(
    encoded: Path, clips: Path, checkpoints: Callable[[str], Path]
) -> None:
    words = _encoding(clips, checkpoints("hunyuan"), encoded)
    gone = [encoded / f"{name}.safetensors" for name in ("text-0001", "train-9x64x64-0001")]
    before = {path: path.read_bytes() for path in gone}
    times = {path: path.stat().st_mtime_ns for path in encoded.glob("*-*") if path not in gone}
    for path in gone:
        path.unlink()
    with pytest.raises(UserError, match="2 of 18 files are not encoded yet"):
        EncodedSet(encoded)
    backbone_latents.main(words)
    assert {path: path.read_bytes() for path in gone} == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    with pytest.raises(UserError, match="was made of other data"):
        backbone_latents.main([*words, "stride=2"])


def test_captions_are_read_from_all_kinds_of_folders(tmp_path: Path, clips: Path) -> None:
    made = read_captioned(clips)
    assert [film.split for film in made] == ["validation", *["train"] * 4]
    assert made[1].caption == "A man, style 1 hair. Style: computer animation. Light: soft."
    assert made[1].shape == (FRAMES, SIDE, SIDE) and made[1].frames(2, 3, 4).shape == (3, SIDE, SIDE, 3)
    assert told({}) == "A person. Style: computer animation."
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(picture(96)[:64]).save(pictures / "a.png")
    with pytest.raises(UserError, match=r"a\.png: has no caption; write it into .*a\.txt"):
        read_captioned(pictures)
    (pictures / "a.txt").write_text("a wall\n")
    (only,) = read_captioned(pictures)
    assert (only.caption, only.shape, only.frames(0, 1).shape) == ("a wall", (1, 64, 96), (1, 64, 96, 3))
    with pytest.raises(UserError, match="0 clips, more than 0 are needed"):
        read_captioned(tmp_path)


def test_prepared_footage_is_read_at_its_size(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    source = ("-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=0.4")
    subprocess.run(
        ffmpeg.command("-y", *source, str(tmp_path / "clips/a.mp4")), check=True, capture_output=True
    )
    entry = {"id": "a", "split": "train", "frames": 10, "caption": {"short": "no", "dense": "A test card."}}
    (tmp_path / "index.json").write_text(json.dumps([entry]))
    (tmp_path / "prepare.json").write_text(json.dumps({"reading": {"size": 64}}))
    (film,) = read_captioned(tmp_path)
    assert (film.caption, film.split, film.shape) == ("A test card.", "train", (10, 64, 64))
    whole = film.frames(0, 10)
    assert whole.shape == (10, 64, 64, 3) and np.array_equal(film.frames(1, 3, 4), whole[1::4])
    (tmp_path / "prepare.json").unlink()
    with pytest.raises(UserError, match=r"index\.json: not an index of clips"):
        read_captioned(tmp_path)


# ---- batches -----------------------------------------------------------------------------------


def _reader(encoded: Path, text_dropout: float = 0.0, **changes: int) -> EncodedReader:
    words = ["durations=[1, 9]", "scales=[64, 96]", "tokens=100", "pictures=0.25", "accumulate=2", "out=none"]
    words += [f"data={encoded}", *(f"{name}={value}" for name, value in changes.items())]
    settings = read_settings(BackboneSettings, "image_256", words)
    return EncodedReader(EncodedSet(encoded), settings, text_dropout)


def test_all_parts_of_a_step_take_one_bucket_and_fill_the_budget(encoded: Path) -> None:
    read = _reader(encoded)
    shapes = []
    for step in range(60):
        one, other = read(2 * step), read(2 * step + 1)
        assert one["latents"].shape == other["latents"].shape
        assert int(one["step"]) == int(other["step"]) == step
        shapes.append(tuple(one["latents"].shape))
    # 64 px are 16 tokens a frame and 96 px 36; 9 frames are 3 latent ones: 6, 2, 2 and 1 clips of at most
    # 100.
    assert set(shapes) == {(6, 16, 1, 8, 8), (2, 16, 1, 12, 12), (2, 16, 3, 8, 8), (1, 16, 3, 12, 12)}
    still = sum(shape[2] == 1 for shape in shapes) / len(shapes)
    assert still == pytest.approx(0.25, abs=0.15)
    assert torch.equal(read(7)["latents"], read(7)["latents"])
    assert max(len(_reader(encoded, batch=3)(part)["latents"]) for part in range(20)) == 3


def test_a_text_that_is_withheld_says_nothing(encoded: Path) -> None:
    nothing = load_file(encoded / "text-0000.safetensors")
    length = int(nothing["mask"][0].sum())
    for share in (0.0, 1.0):
        batch = _reader(encoded, text_dropout=share)(3)
        same = torch.equal(batch["pooled"][0], nothing["pooled"][0].float())
        assert same == (share == 1)
    assert batch["text"].shape[1] == length and batch["mask"].all()
    assert torch.equal(batch["text"][0], nothing["states"][0, :length].float())


def test_a_stage_takes_the_buckets_of_its_durations_and_scales(encoded: Path) -> None:
    places = EncodedSet(encoded).places("train")
    assert set(chosen(places, [9], [64]).values()) == {(9, 64, 64)}
    assert set(chosen(places, [1, 9, 17], [64, 96]).values()) == set(places.values())
    assert chosen(places, [9], [128]) == {}


# ---- a few steps of every stage ----------------------------------------------------------------


def _words(name: str, encoded: Path, out: Path, base: Path) -> list[str]:
    """Settings that make a stage small; what makes it what it is stays."""
    still = name.startswith("image")
    words = [f"data={encoded}", f"out={out}", "size=tiny", "steps=3", "warmup=2", "decay=0.5", "threads=1"]
    words += ["tokens=100", f"durations={[1] if still else [1, 9]}", "log_every=1", "probe_every=3"]
    words += [f"scales={[64, 96] if name in ('image_mixed', 'video_long_high', 'finetune_full') else [64]}"]
    if name == "lora":
        return [*words, f"base={base}", "rank=4", "alpha=4", "learning_rate=1e-2"]
    if name == "finetune_full":
        words += ["unfreeze_every=1", "unfreeze_blocks=2"]
    return [*words, f"start={base}", "learning_rate=1e-3"]


@pytest.fixture(scope="module")
def base(checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights none of which is zero, so that a net hears all that it is told from the first step on."""
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save(weights.load(checkpoints("hunyuan") / RELEASES["hunyuan"].files.dit).module(), path)
    return path


@pytest.fixture(scope="module")
def trained(
    encoded: Path, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[list[float], Path]]:
    """Losses and folder of a run of a recipe, by its name; run when first asked for."""
    root, known = tmp_path_factory.mktemp("runs"), {}

    def run(name: str) -> tuple[list[float], Path]:
        if name not in known:
            known[name] = backbone.main(_words(name, encoded, root / name, base), name), root / name
        return known[name]

    return run


@pytest.mark.parametrize("name", LOSSES)
def test_a_stage_trains(name: str, trained: Callable[[str], tuple[list[float], Path]]) -> None:
    losses, out = trained(name)
    assert losses == pytest.approx(LOSSES[name], rel=CLOSE)
    log = [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]
    assert 0 < log[-1]["held_out"] < 4


@pytest.mark.parametrize("name", ["video_short_low", "finetune_full", "lora"])
def test_a_stage_that_was_stopped_goes_on_bit_for_bit(
    name: str,
    trained: Callable[[str], tuple[list[float], Path]],
    encoded: Path,
    base: Path,
    tmp_path: Path,
) -> None:
    losses, out = trained(name)
    words = _words(name, encoded, tmp_path / "parts", base)
    parts = backbone.main([*words, "minutes=1e-9"], name) + backbone.main([*words, "minutes=1e-9"], name)
    assert len(parts) == 2
    parts += backbone.main(words, name)
    assert parts == losses and equal(state(tmp_path / "parts"), state(out))


@pytest.mark.slow
def test_two_processes_unfreeze_and_learn_as_one_does(encoded: Path, base: Path, tmp_path: Path) -> None:
    words = [
        *_words("finetune_full", encoded, tmp_path / "one", base),
        "weight_decay=0.5",
        "learning_rate=1e-3",
    ]
    one = backbone.main([*words, "accumulate=2"], "finetune_full")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = [sys.executable, *launch, "avatar.recipes.backbone", "finetune_full", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([*command, f"out={tmp_path}/two"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(row) for row in (tmp_path / "two/log.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows if "loss" in row] == pytest.approx(one, abs=1e-4)
    alone, both = state(tmp_path / "one"), state(tmp_path / "two")
    assert alone.keys() == both.keys()  # what is not let go of has no state there either
    for name, value in alone.items():
        torch.testing.assert_close(both[name], value, rtol=0, atol=1e-3)


def test_a_trained_net_is_one_that_avatar_generate_takes(
    trained: Callable[[str], tuple[list[float], Path]], checkpoints: Callable[[str], Path]
) -> None:
    _, out = trained("video_short_low")
    files = find(checkpoints("hunyuan"), "hunyuan", dit_weight=out / "model.safetensors")
    assert files.dit == out / "model.safetensors"
    net = load(DiT, files.dit)
    assert net.config.guidance_embed and net.config.hidden == SIZES["tiny"]["hidden"]


@pytest.mark.parametrize(
    ("guided_by", "guidance", "losses"),
    [
        ("cfg", "[1.0, 8.0]", [3.767947, 2.112704, 2.665943]),
        ("embedded", "[6.0, 6.0]", [0.386893, 0.261267, 0.215778]),
    ],
)
def test_a_net_is_distilled_and_resumes_exactly(
    guided_by: str,
    guidance: str,
    losses: list[float],
    base: Path,
    encoded: Path,
    tmp_path: Path,
) -> None:
    words = [f"data={encoded}", f"teacher={base}", "steps=3", "warmup=2", "decay=0.5"]
    words += ["threads=1", "tokens=100", "durations=[1, 9]", "scales=[64]", "log_every=1", "probe_every=3"]
    words += ["teacher_steps=4", "student_steps=1", f"guided_by={guided_by}", f"guidance={guidance}"]
    found = distill.main([*words, "learning_rate=3e-4", f"out={tmp_path}/whole"])
    assert found == pytest.approx(losses, rel=CLOSE)
    log = [json.loads(row) for row in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    assert 0 < log[-1]["held_out"] < 3
    words += ["learning_rate=3e-4", f"out={tmp_path}/parts"]
    parts = distill.main([*words, "minutes=1e-9"]) + distill.main([*words, "minutes=1e-9"])
    parts += distill.main(words)
    assert parts == found and equal(state(tmp_path / "parts"), state(tmp_path / "whole"))
    assert load(DiT, tmp_path / "whole/model.safetensors").config == load(DiT, base).config


def test_guidance_is_that_of_the_sampler(encoded: Path) -> None:
    net, _ = _net()
    for layer in net.modules():
        if isinstance(layer, FinalLayer | Modulation):
            for value in layer.parameters():
                torch.nn.init.normal_(value, std=0.05)
    data = EncodedSet(encoded)
    batch, time, scale = _reader(encoded)(0), torch.tensor([0.5]), torch.tensor([5.0])
    batch = {name: value[:1] if value.dim() else value for name, value in batch.items()}
    nothing = data.texts([0])
    asked = distill.Asked(batch, nothing, Told(), scale)
    x = torch.randn_like(batch["latents"])
    one = torch.ones(1)
    with torch.no_grad():
        with_text, without = (
            predict(net, x, time, Told(), given, one) for given in (batch, {**batch, **nothing})
        )
        torch.testing.assert_close(asked.guided(net)(x, time), flow.guide(with_text, without, 5.0))
        told = predict(net, x, time, Told(), batch, scale)
        torch.testing.assert_close(asked.alone(net, scale)(x, time), told)
    assert (with_text - without).abs().max() > 1e-3 and (told - with_text).abs().max() > 1e-3


def test_a_net_of_pictures_is_trained_on_texts_with_the_first_frame(
    clips: Path, checkpoints: Callable[[str], Path], tmp_path: Path
) -> None:
    words = ["preset=hunyuan-i2v-concat", "durations=[9]", "scales=[64]"]
    folder = checkpoints("hunyuan-i2v-concat")
    backbone_latents.main([*_encoding(clips, folder, tmp_path / "encoded"), *words])
    # Nothing, and for each of five clips two windows, whose first frames differ.
    rows = [len(load_file(path)["pooled"]) for path in sorted((tmp_path / "encoded").glob("text-*"))]
    assert rows == [3, 3, 3, 2]
    words += ["size=tiny", "steps=2", "start=null", "tokens=100", "threads=1", "last_share=0.5", "warmup=1"]
    words += [f"data={tmp_path}/encoded", f"out={tmp_path}/run", "log_every=1"]
    losses = backbone.main(words, "video_short_low")
    assert len(losses) == 2 and 1 < losses[0] < 4
    net = load(DiT, tmp_path / "run/model.safetensors")
    assert net.config.condition_channels == 17 and not net.config.guidance_embed


# ---- LoRA --------------------------------------------------------------------------------------


def test_a_lora_file_makes_the_net_that_was_trained(
    trained: Callable[[str], tuple[list[float], Path]],
    encoded: Path,
    base: Path,
) -> None:
    _, out = trained("lora")
    file = out / "lora.safetensors"
    merged = weights.merge_loras(weights.load(base), [(file, 1.0)]).module().float()
    plain = weights.load(base).module().float()
    layers = ("img_attn_qkv", "img_attn_proj", "txt_attn_qkv", "txt_attn_proj", "linear1", "linear2")
    made = LowRank(LowRankConfig(layers=layers, rank=4, alpha=4.0), weights.load(base).module().float())
    made.load_state_dict(
        {name: value.float() for name, value in load_file(out / "model.safetensors").items()}
    )
    assert made.own and all(".lora_" in name for name in made.own)
    batch = _reader(encoded)(0)
    told, time = Told(), torch.full((len(batch["latents"]),), 0.5)

    def say(net: torch.nn.Module) -> Tensor:
        with torch.no_grad():
            return predict(net.eval(), batch["latents"], time, told, batch, torch.full_like(time, 6.0))

    torch.testing.assert_close(say(merged), say(made), rtol=1e-3, atol=1e-3)
    assert (say(plain) - say(made)).abs().mean() > 1e-3
    assert file.stat().st_size < 1e6


def test_only_the_factors_are_kept_in_the_states(trained: Callable[[str], tuple[list[float], Path]]) -> None:
    _, out = trained("lora")
    found = torch.load(out / "states/state-3.pt", weights_only=True)
    assert all(".lora_" in name for name in [*found["model"], *found["ema"]])


# ---- unfreezing --------------------------------------------------------------------------------


def _net(preset: str = "hunyuan") -> tuple[DiT, DiTConfig]:
    config = replace(RELEASES[preset].dit, **SIZES["tiny"] | {"text_dim": 32, "pooled_dim": 24})
    torch.manual_seed(0)
    return DiT(config), config


def test_layers_are_let_go_of_from_the_last_to_the_first() -> None:
    net, _ = _net()
    open_up = Unfreezing(net, every=10, blocks=1)

    def training() -> set[str]:
        names = [name for name, value in net.named_parameters() if value.requires_grad]
        return {".".join(name.split(".")[: 2 if "blocks" in name.split(".")[0] else 1]) for name in names}

    known: set[str] = set()
    order = [
        {"final_layer", "single_blocks.1"},
        {"single_blocks.0"},
        {"double_blocks.1"},
        {"double_blocks.0"},
        {"img_in", "time_in", "txt_in", "vector_in", "guidance_in"},
    ]
    for number, added in enumerate(order):
        known |= added
        for step in (10 * number, 10 * number + 9):
            open_up(step)
            assert training() == known
    open_up(1000)
    assert all(value.requires_grad for value in net.parameters())
    open_up(0)  # as a resumed run may
    assert training() == order[0]
    Unfreezing(net, every=0, blocks=1)(0)
    assert all(value.requires_grad for value in net.parameters())


def test_what_is_not_let_go_of_neither_moves_nor_has_a_state(
    encoded: Path, base: Path, tmp_path: Path
) -> None:
    words = _words("finetune_full", encoded, tmp_path / "run", base)
    backbone.main(
        [*words, "unfreeze_every=2", "unfreeze_blocks=1", "steps=3", "weight_decay=0.5"], "finetune_full"
    )
    found = torch.load(tmp_path / "run/states/state-3.pt", weights_only=True)
    settings = read_settings(BackboneSettings, "finetune_full", words)
    torch.manual_seed(settings.seed)
    net = load(DiT, base)
    names = list(net.state_dict())
    moved = {n for n, value in net.state_dict().items() if not torch.equal(value, found["model"][n])}
    stated = {names[i] for i in found["optimizer"]["state"]}
    opened = {n for n in names if n.startswith(("final_layer", "single_blocks"))}
    assert stated == opened and moved <= opened
    assert {n.split(".")[0] for n in moved} == {"final_layer", "single_blocks"}
    # The first opening is at step 2, so the last block has taken three steps, the one before it one.
    steps = {names[i]: int(s["step"]) for i, s in found["optimizer"]["state"].items()}
    assert steps["single_blocks.1.linear1.weight"] == 3 and steps["single_blocks.0.linear1.weight"] == 1


# ---- what nets are told ------------------------------------------------------------------------


def _film() -> dict[str, Tensor]:
    torch.manual_seed(1)
    latents, text = torch.randn(2, 16, 3, 8, 8), torch.randn(2, 5, 32)
    mask = torch.ones(2, 5, dtype=torch.bool)
    return {"latents": latents, "text": text, "mask": mask, "pooled": torch.randn(2, 24)}


def test_a_net_of_pictures_is_told_the_first_frame_and_some_the_last() -> None:
    clean = _film()["latents"]
    _, config = _net("hunyuan-i2v-concat")
    given = tell(config, clean, torch.tensor([False, True]))
    assert given.first is None and given.condition is not None
    assert torch.equal(given.condition[:, :16, 0], clean[:, :, 0])
    assert given.condition[0, 16].flatten(1).tolist() == [[1] * 64, [0] * 64, [0] * 64]
    assert given.condition[1, 16].flatten(1).tolist() == [[1] * 64, [0] * 64, [1] * 64]
    assert torch.equal(given.condition[1, :16, 2], clean[1, :, 2])
    _, config = _net("hunyuan-i2v")
    given = tell(config, clean, torch.tensor([False, True]))
    assert given.condition is None and given.first is not None and torch.equal(given.first, clean[:, :, :1])
    with pytest.raises(UserError, match="needs 9 frames at least"):
        tell(config, clean[:, :, :1], torch.tensor([False]))
    assert tell(_net()[1], clean[:, :, :1], torch.tensor([False])) == Told()


@pytest.mark.parametrize(
    ("preset", "frames"), [("hunyuan", 3), ("hunyuan-i2v", 2), ("hunyuan-i2v-concat", 3)]
)
def test_an_untrained_net_misses_the_whole_velocity(preset: str, frames: int) -> None:
    batch, (net, config) = _film(), _net(preset)
    noise, time = torch.randn_like(batch["latents"]), torch.full((2,), 0.3)
    with torch.no_grad():
        error = velocity_error(net, config, batch, noise, time, torch.zeros(2, dtype=torch.bool), 6.0)
    # An untrained net says 0, and a first frame that is given does not count.
    velocity = (noise - batch["latents"])[:, :, -frames:]
    assert error.item() == pytest.approx(velocity.square().mean().item(), rel=1e-6)


class Straight(torch.nn.Module):
    """Velocity of films that are zero everywhere: what stands at time t is t times the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, time: Tensor, *_: object, **__: object) -> Tensor:
        return x / (time / 1000)[:, None, None, None, None] + self.bias


@pytest.mark.parametrize("preset", ["hunyuan", "hunyuan-i2v"])
def test_a_net_that_leads_straight_from_data_to_noise_has_no_error(preset: str) -> None:
    batch, (_, config) = _film(), _net(preset)
    noise, time = torch.randn_like(batch["latents"]), torch.tensor([0.3, 0.8])
    batch["latents"] = torch.zeros_like(noise)
    last = torch.zeros(2, dtype=torch.bool)
    error = velocity_error(Straight(), config, batch, noise, time, last, 6.0)
    assert error.item() < 1e-10


def test_sizes_are_those_of_the_public_nets() -> None:
    def count(size: str) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in DiT(replace(RELEASES["hunyuan"].dit, **SIZES[size])).parameters())

    assert count("release") == pytest.approx(12.821e9, rel=1e-4)  # section 2.1 of the reference
    assert 1e8 < count("small") < 2e8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["preset=hunyan"], "preset=hunyan: must be one of"),
        (["preset=hunyuan-avatar"], "hears, and the encoded clips have no sound"),
        (["preset=hunyuan-i2v"], "has the text of hunyuan"),
        (["durations=[17]"], r"no such clip is in .*; there are \[\(1, 64, 64\)"),
        (["rank=4"], "a LoRA needs base="),
        (["base=x"], "base=x: is what a LoRA changes"),
    ],
)
def test_settings_that_do_not_fit_are_refused(words: list[str], message: str, encoded: Path) -> None:
    usual = [f"data={encoded}", "out=none", "size=tiny", "start=null", "durations=[1]", "scales=[64]"]
    with pytest.raises(UserError, match=message):
        backbone.main([*usual, *words], "image_256")


def test_a_folder_without_encoded_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no encoded\.json"):
        EncodedSet(tmp_path)
    assert Place("a", 1) == ("a", 1)
