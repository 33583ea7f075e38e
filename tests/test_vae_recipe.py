"""The VAE's recipe: each term of the loss, what is read at each stage, and a few steps of every YAML."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_run import equal, state
from tiny import TINY, picture
from tiny import vae as tiny_vae
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from avatar.backbone.checkpoint import load
from avatar.backbone.precision import fast_dtype
from avatar.backbone.tiling import Tiling
from avatar.backbone.vae import CausalVAE, Posterior
from avatar.errors import UserError
from avatar.presets import PRESETS
from avatar.recipes import vae
from avatar.recipes.discriminator import Contest, DiscriminatorConfig
from avatar.recipes.perceptual import STAGES, Perceptual, read_weights
from avatar.recipes.settings import read_settings
from avatar.recipes.shards import write

SIDE, FRAMES = 72, 42

# Losses of three steps from the settings of each YAML, in float32.
LOSSES = {
    "vae_hunyuan": [0.557929, 0.633820, 0.619036],
    "vae_tiling": [0.630952, 0.650036, 0.602314],
}
CLOSE = 3e-3 if fast_dtype() == torch.float32 else 3e-2


def small_vgg(blurs: bool) -> dict[str, Tensor]:
    """Weights in the layout of VGG-16 and LPIPS, of a few channels and random."""
    torch.manual_seed(0)
    found, channels, number, widths = {}, 3, 0, (4, 4, 6, 6, 8)
    for stage, (count, width) in enumerate(zip(STAGES, widths, strict=True)):
        if stage:  # a pooling, and the blur behind it, have numbers too
            number += 2 if blurs else 1
        for _ in range(count):
            prefix = f"net.slice{stage + 1}." if blurs else "features."
            found[f"{prefix}{number}.weight"] = torch.randn(width, channels, 3, 3) / (3 * channels**0.5)
            found[f"{prefix}{number}.bias"] = 0.1 * torch.randn(width)
            channels, number = width, number + 2
        found[f"lin{stage}.model.1.weight"] = torch.rand(1, width, 1, 1)
    if blurs:
        found["net.slice2.5.filt"] = torch.ones(4, 1, 3, 3)
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Long clips, weights of a perceptual net, and presets of tiny nets."""
    folder = tmp_path_factory.mktemp("data")
    for seed in range(4):
        whole = picture(SIDE + FRAMES, seed)
        frames = np.stack([whole[k : k + SIDE, k : k + SIDE] for k in range(FRAMES)])
        write({"frames": frames}, folder / f"clips/clip-{seed}.safetensors")
    save_file(small_vgg(blurs=True), folder / "vgg.safetensors")
    public = replace(PRESETS["hunyuan"].vae, widths=(32, 32, 32, 32), layers_per_block=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", TINY)
        patch.setitem(PRESETS, "tiny-public", replace(PRESETS["hunyuan"], vae=public))
        yield folder


# ---- terms of the loss -------------------------------------------------------------------------


@pytest.mark.parametrize("blurs", [True, False])
def test_equal_pictures_have_no_distance_and_more_noise_has_more(blurs: bool) -> None:
    net = Perceptual(small_vgg(blurs))
    x = torch.from_numpy(picture(48)).permute(2, 0, 1)[None].float() / 127.5 - 1
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    apart = [net(x, x + strength * noise).item() for strength in (0.0, 0.05, 0.2)]
    assert apart[0] == 0 and 0 < apart[1] < apart[2]
    assert net(x, x + noise).item() == pytest.approx(net(x + noise, x).item(), rel=1e-4)
    assert not any(value.requires_grad for value in net.parameters())


def test_the_distance_of_one_layer_is_that_of_its_formula() -> None:
    weights = small_vgg(blurs=False)
    for stage in range(1, 5):
        weights[f"lin{stage}.model.1.weight"].zero_()
    one, other = torch.rand(2, 1, 3, 16, 16) * 2 - 1
    mean = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    spread = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    found = []
    for x in (one, other):
        x = (x - mean) / spread
        for i in (0, 2):
            x = torch.conv2d(
                x, weights[f"features.{i}.weight"], weights[f"features.{i}.bias"], padding=1
            ).relu()
        found.append(x / x.norm(dim=1, keepdim=True).clamp(min=1e-9))
    expected = ((found[0] - found[1]) ** 2 * weights["lin0.model.1.weight"]).sum(1).mean()
    assert Perceptual(weights)(one, other).item() == pytest.approx(expected.item(), rel=1e-4)


def test_other_weights_are_no_perceptual_net(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 convolutions and 0 heads, not the 13 of VGG-16 and the 5"):
        Perceptual({"x": torch.zeros(1)})
    with pytest.raises(UserError, match=r"none\.pth: no weights that can be read"):
        read_weights([str(tmp_path / "none.pth")])


def test_the_divergence_is_that_of_two_normal_laws() -> None:
    torch.manual_seed(0)
    mean, logvar = torch.randn(2, 4, 1, 3, 3), torch.randn(2, 4, 1, 3, 3)
    expected = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).mean()
    assert vae.divergence(Posterior(mean, logvar)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_neither_side_of_a_contest_trains_the_other() -> None:
    torch.manual_seed(0)
    net = Contest(TINY.vae, DiscriminatorConfig(width=4, layers=2))
    net.load_state_dict(tiny_vae(random=True).state_dict(), strict=False)
    x = torch.rand(1, 3, 5, 32, 32) * 2 - 1

    def reached(which: int) -> set[str]:
        net.zero_grad()
        net.losses(x, net(x))[which].backward()
        return {name.split(".")[0] for name, value in net.named_parameters() if value.grad is not None}

    assert reached(0) == {"encoder", "decoder", "shortcut_in", "shortcut_out"}
    assert reached(1) == {"discriminator"}
    fooled, caught = net.losses(x, x)
    score = net.discriminator(x)
    assert fooled.item() == pytest.approx(-score.mean().item(), rel=1e-5)
    hinge = (1 - score).relu().mean() + (1 + score).relu().mean()
    assert caught.item() == pytest.approx(hinge.item(), rel=1e-5)


def test_a_clip_in_tiles_is_made_as_the_vae_makes_it_in_tiles() -> None:
    net, x = tiny_vae(random=True), torch.rand(1, 3, 21, 64, 64) * 2 - 1
    net.tiling = Tiling(size=32, stride=24, frames=16, frame_stride=12)
    generator = torch.Generator().manual_seed(0)
    made, posterior = vae.code(net, x, generator, tiled=True, held=True)
    assert posterior is None and torch.equal(made, net.decode_tiled(net.encode_tiled(x)))
    assert not torch.equal(made, vae.code(net, x, generator, tiled=False, held=True)[0])
    made.sum().backward()
    assert net.decoder.conv_out.conv.weight.grad is not None and net.encoder.conv_out.conv.weight.grad is None


# ---- what is read ------------------------------------------------------------------------------


def _reader(data: Path, *words: str) -> vae.ClipReader:
    usual = [f"data={data}/clips", "preset=tiny", "held_out=1", "batch=1"]
    return vae.ClipReader(read_settings(vae.VAESettings, "vae_hunyuan", [*usual, *words]))


def test_clips_grow_with_the_steps(data: Path) -> None:
    stages = "curriculum=[[10, 17, 48], [20, 33, 64]]"
    read = _reader(data, "images=0", "strides=[1]", "frames=9", "crop=32", stages)
    shapes = {step: tuple(read(step)["x"].shape[1:]) for step in (0, 9, 10, 19, 20, 99)}
    small, middle, large = (3, 9, 32, 32), (3, 17, 48, 48), (3, 33, 64, 64)
    assert shapes == {0: small, 9: small, 10: middle, 19: middle, 20: large, 99: large}


def test_all_strides_are_drawn_and_fit_the_clips(data: Path) -> None:
    read = _reader(data, "images=0.2", "frames=17", "crop=32")
    shapes = [tuple(read(step)["x"].shape) for step in range(200)]
    # 42 frames hold 17 at a stride of 1 or 2, 13 at 3, 9 at 4 and 5, 5 at 6 to 8; shorter clips come in more.
    assert set(shapes) == {(n, 3, t, 32, 32) for n, t in ((4, 1), (1, 17), (1, 13), (2, 9), (4, 5))}
    assert np.mean([shape[2] == 1 for shape in shapes]) == pytest.approx(0.2, abs=0.08)


def test_the_stride_is_that_between_the_frames(data: Path) -> None:
    read = _reader(data)
    x = read.square(read.films[0], np.random.default_rng(3), 5, 8, 24)[0]
    # The picture moves by a px a frame up and left: by 8 at a stride of 8, to either side.
    moved = [x[:, 1:, :-8, :-8] - x[:, :-1, 8:, 8:], x[:, 1:, :-8, 8:] - x[:, :-1, 8:, :-8]]
    assert min(error.abs().max() for error in moved) < 1e-6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["crop=80"], r"crop=80: .*clip-.* has 72 x 72 px"),
        (["perceptual=[]"], "perceptual, perceptual_weight: each needs the other"),
        (["tiled_share=1", "tile=100"], "tile=100, tile_frames=16: must be multiples of 32 px"),
        (["kl_weight=1"], "kl_weight: the VAE of the preset tiny has no posterior"),
    ],
)
def test_settings_that_do_not_fit_are_refused(data: Path, words: list[str], message: str) -> None:
    usual = [f"data={data}/clips", "out=none", "preset=tiny", "held_out=1", "crop=32", "curriculum=[]"]
    usual += ["kl_weight=0", f"perceptual=[{data}/vgg.safetensors]"]
    with pytest.raises(UserError, match=message):
        vae.main([*usual, *words], "vae_hunyuan")


# ---- a few steps -------------------------------------------------------------------------------


def _words(name: str, data: Path, out: Path) -> list[str]:
    words = [f"data={data}/clips", f"out={out}", "preset=tiny-public", "steps=3", "warmup=2", "decay=0.5"]
    words += ["held_out=1", "threads=1", "log_every=1", "probe_every=3", "frames=5", "batch=1", "start=null"]
    words += [f"perceptual=[{data}/vgg.safetensors]", "discriminator=4", "learning_rate=3e-4"]
    if name == "vae_tiling":
        return [*words, "crop=48", "tile=32", "frames=21", "strides=[2]"]
    return [*words, "crop=32", "curriculum=[[2, 9, 32]]", "adversarial_from=1"]


@pytest.fixture(scope="module", params=LOSSES)
def trained(
    request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[float], Path]:
    """Name, losses and folder of a run."""
    out = tmp_path_factory.mktemp("runs") / request.param
    return request.param, vae.main(_words(request.param, data, out), request.param), out


def test_a_recipe_trains_and_resumes_exactly(
    trained: tuple[str, list[float], Path], data: Path, tmp_path: Path
) -> None:
    name, losses, out = trained
    assert losses == pytest.approx(LOSSES[name], rel=CLOSE)
    log = [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]
    assert {"l1", "psnr", "perceptual", "adversarial", "discriminator"} <= log[0].keys()
    assert ("kl" in log[0]) == (name == "vae_hunyuan")
    words = _words(name, data, tmp_path / "parts")
    parts = vae.main([*words, "minutes=1e-9"], name) + vae.main([*words, "minutes=1e-9"], name)
    parts += vae.main(words, name)
    assert parts == losses and equal(state(tmp_path / "parts"), state(out))


def test_the_vae_of_a_contest_stands_alone_too(trained: tuple[str, list[float], Path]) -> None:
    _, _, out = trained
    both = load_file(out / "model.safetensors")
    alone = load(CausalVAE, out / "vae.safetensors")
    assert alone.state_dict().keys() < both.keys()
    assert all(torch.equal(value, both[name].float()) for name, value in alone.state_dict().items())


def test_the_decoder_alone_trains_where_tiles_are_on_and_off(
    trained: tuple[str, list[float], Path], data: Path
) -> None:
    name, _, out = trained
    settings = read_settings(vae.VAESettings, name, _words(name, data, out))
    torch.manual_seed(settings.seed)
    before = vae.make_net(settings, vae.ClipReader(settings)).state_dict()
    after = torch.load(out / "states/state-3.pt", weights_only=True)["model"]
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    held = {"encoder", "quant_conv"}
    assert {"decoder", "post_quant_conv"} <= moved
    assert moved & held == (held if name == "vae_hunyuan" else set())


def test_a_contest_starts_from_a_vae_alone(data: Path, tmp_path: Path) -> None:
    words = [f"data={data}/clips", "preset=tiny", "steps=1", "held_out=1", "threads=1", "crop=32", "frames=5"]
    words += [
        "strides=[1]",
        "perceptual=[]",
        "perceptual_weight=0",
        "kl_weight=0",
        "curriculum=[]",
        "batch=1",
    ]
    first = tmp_path / "first"
    vae.main([*words, f"out={first}", "adversarial_weight=0"], "vae_hunyuan")
    out = tmp_path / "second"
    vae.main([*words, f"out={out}", f"start={first}/model.safetensors", "discriminator=4"], "vae_hunyuan")
    begun = json.loads((out / "log.jsonl").read_text().splitlines()[0])
    assert begun["new"] and all(name.startswith("discriminator.") for name in begun["new"])
