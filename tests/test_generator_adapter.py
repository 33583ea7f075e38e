"""Adapters of the generator: what is trained, recorded losses, files that load and change nothing at 0."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from small_run import equal, state

from avatar.adapters.adapter_file import FILE, Adapter, add_adapters, digest
from avatar.animator import Animator
from avatar.backbone.checkpoint import load, save
from avatar.backbone.precision import fast_dtype
from avatar.errors import UserError
from avatar.model import Generator, Strengths
from avatar.presets import PRESETS
from avatar.probe import CONDITIONS
from avatar.probe import conditions as conditions_of
from avatar.recipes import finetune, generator_adapter
from avatar.recipes.generator import LatentReader, conditions
from avatar.recipes.settings import read_settings
from avatar.recipes.shards import write
from avatar.recipes.sitters import Sitter

NAMES = ("pose_adapter", "expression_adapter", "generator_audio_adapter", "hybrid_adapter")
# Losses of three steps in float32; processors that multiply bfloat16 train in it.
LOSSES = {
    "pose_adapter": [0.339219, 0.334314, 0.330820],
    "expression_adapter": [0.339951, 0.337480, 0.332737],
    "generator_audio_adapter": [0.338843, 0.335742, 0.331513],
    "hybrid_adapter": [0.339951, 0.335546, 0.330964],
}
CLOSE = 3e-3 if fast_dtype() == torch.float32 else 3e-2


def made_up_latents(seed: int) -> dict[str, np.ndarray]:
    """A record as avatar.recipes.latents writes them; the clip goes on from where it is driven to."""
    rng = np.random.default_rng(seed)
    driven = rng.normal(0, 1, (16, 5, 8, 8)).astype(np.float32)
    pose = rng.normal(0, 1, (16, 5, 8, 8)).astype(np.float32)
    return {
        "place": np.array([3, 4]),
        "clean": driven + 0.5 * pose,
        "driven": driven,
        "reference": driven[:, :1],
        "hole": rng.uniform(0, 1, (4, 5, 8, 8)).astype(np.float32),
        "face": np.ones((8, 8), np.float32),
        "motion": np.ones(2, np.float32),
        "audio": rng.normal(0, 1, (5, 4, 10, tiny.FEATURES)).astype(np.float32),
        "heard": np.ones(1, np.float32),
        "pose": pose,
        "codes": rng.normal(0, 1, (5, 4, 48)).astype(np.float32),
        "seen": np.ones(1, np.float32),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents of made-up clips, and in nets/ a generator and a VAE of tiny nets."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed in range(5):
        write(made_up_latents(seed), folder / f"latents/latent-{seed}.safetensors")
    (folder / "nets").mkdir()
    save(tiny.generator(random=True), folder / "nets/generator.safetensors")
    save(tiny.vae(random=False), folder / "nets/vae.safetensors")
    return folder


def words(data: Path, out: Path, *more: str) -> list[str]:
    nets = [f"weights={data}/nets/generator.safetensors", f"vae={data}/nets/vae.safetensors", "preset=tiny"]
    usual = ["steps=3", "warmup=1", "batch=2", "held_out=2", "probe_people=0", "log_every=1", "probe_every=2"]
    return [f"data={data}/latents", f"out={out}", *nets, *usual, "threads=1", *more]


def finish(name: str, data: Path, out: Path, *more: str) -> list[float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", tiny.TINY)
        return generator_adapter.main([name, *words(data, out, *more)])


@pytest.fixture(scope="module")
def runs(data: Path) -> dict[str, list[float]]:
    """Losses of each recipe; its folder is data/NAME."""
    return {name: finish(name, data, data / name) for name in NAMES}


def predicted(net: Generator, data: Path, strengths: Strengths) -> torch.Tensor:
    settings = read_settings(generator_adapter.AdapterSettings, "pose_adapter", words(data, data / "none"))
    batch = LatentReader(settings).read([0, 1])
    noise = torch.randn(batch["clean"].shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return net(noise, torch.zeros(2), conditions(batch), strengths)


def adapted(data: Path, name: str, strength: float) -> Generator:
    net = load(Generator, data / "nets/generator.safetensors")
    add_adapters([(data / name, strength)], {"generator": net}, data / "nets")
    return net


@pytest.mark.slow
def test_frames_at_strength_0_are_those_without_the_file(animator: Animator, tmp_path: Path) -> None:
    """The shipped nets with a file that changes all adapters of the generator at random."""
    weights = Path(str(files("avatar") / "weights/mini/generator.safetensors"))
    net = load(Generator, weights)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    every = ("audio", "pose", "expression")
    config = generator_adapter.AdaptedConfig(generator=net.config, adapters=every, rank=16, alpha=16.0)
    model = generator_adapter.AdaptedGenerator(config, net)
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value += 0.1 * torch.randn(value.shape)
    learnt = Adapter("hybrid", {"generator": digest(weights)}, 1.0, model.tensors(before))
    learnt.save(tmp_path / FILE)
    assert (tmp_path / FILE).stat().st_size < 4e6
    sitter = Sitter.some(1)[0]
    curves, angles = conditions_of(CONDITIONS[0], 9)
    face, head = sitter(curves[:1], angles[:1])[0][0], np.zeros((9, 6), np.float32)
    plain = animator.render(face, curves, head)
    frames = [
        Animator.from_pretrained(adapters=[(tmp_path, strength)]).render(face, curves, head)
        for strength in (0.0, 1.0)
    ]
    assert np.array_equal(frames[0], plain)
    assert not np.array_equal(frames[1], plain)


@pytest.mark.parametrize("name", NAMES)
def test_three_steps_leave_a_small_file_of_what_the_recipe_names(
    name: str, data: Path, runs: dict[str, list[float]]
) -> None:
    assert runs[name] == pytest.approx(LOSSES[name], rel=CLOSE)
    read = Adapter.load(data / name)
    parts = {tensor.split(".")[1] for tensor in read.tensors}
    assert parts == set(read.kind.split("+")) and all(t.startswith("generator.") for t in read.tensors)
    assert (data / name / FILE).stat().st_size < 4e6
    trained = state(data / name)
    before = load(Generator, data / "nets/generator.safetensors").state_dict()
    moved = {n for n, value in before.items() if not torch.equal(value, trained.get(f"net.{n}", value))}
    assert moved and {n.split(".")[0] for n in moved} <= parts
    log = [json.loads(row) for row in (data / name / "log.jsonl").read_text().splitlines()]
    assert log[1]["held_out_pose"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_file_does_what_was_trained_and_nothing_at_strength_0(
    name: str, data: Path, runs: dict[str, list[float]]
) -> None:
    plain = load(Generator, data / "nets/generator.safetensors")
    everything = Strengths()
    before = predicted(plain, data, everything)
    assert torch.equal(predicted(adapted(data, name, 0.0), data, everything), before)
    after = predicted(adapted(data, name, 1.0), data, everything)
    model = generator_adapter.AdaptedGenerator(
        generator_adapter.AdaptedConfig(
            generator=tiny.TINY.generator,
            adapters=tuple(Adapter.load(data / name).kind.split("+")),
            rank=16,
            alpha=16.0,
        )
    )
    newest = torch.load(data / name / "states/state-3.pt", weights_only=True)
    model.load_state_dict(newest["ema"])
    torch.testing.assert_close(after, predicted(model.eval(), data, everything), rtol=0, atol=2e-3)
    assert (after - before).abs().max() > 1e-4


def test_a_pose_that_says_all_is_learnt(data: Path, tmp_path: Path) -> None:
    losses = finish(
        "pose_adapter", data, tmp_path, "steps=60", "learning_rate=0.02", "probe_every=30", "ema=0.9"
    )
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    log = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["held_out_pose"] < 0.9 * log[-1]["held_out"]


def test_a_run_goes_on_exactly(data: Path, runs: dict[str, list[float]]) -> None:
    out = data / "cut"
    losses = finish("hybrid_adapter", data, out, "minutes=1e-9") + finish("hybrid_adapter", data, out)
    assert losses == runs["hybrid_adapter"]
    assert equal(state(out), state(data / "hybrid_adapter"))
    files = [load_file(data / run / FILE) for run in ("cut", "hybrid_adapter")]
    assert equal(*files)


def test_signals_are_withheld_together_and_alone(data: Path) -> None:
    """Condition dropout: of many steps of the hybrid recipe, some hear each combination of the signals."""
    found = set()

    class Listener(torch.nn.Module):
        def forward(self, x, time, given, strengths, drop):  # type: ignore[no-untyped-def]
            rows = zip(
                drop.tolist(), strengths.pose[:, 0].tolist(), strengths.expression[:, 0].tolist(), strict=True
            )
            found.update(rows)
            return x

    settings = read_settings(generator_adapter.AdapterSettings, "hybrid_adapter", words(data, data / "none"))
    read = LatentReader(settings)
    task = generator_adapter.Task(settings, read.read(read.held_out))
    for step in range(60):
        task(Listener(), read(step), torch.Generator().manual_seed(step))
    assert len(found) == 8


def test_the_recipes_are_found_by_name_and_their_settings_are_checked(data: Path) -> None:
    with pytest.raises(UserError, match=r"adapters\.0: recipe pose_adapter"):
        finetune.main(["pose_adapter", *words(data, data / "none", "adapters=[legs]")])
    with pytest.raises(UserError, match="batchh: recipe hybrid_adapter has no such setting"):
        generator_adapter.main(["hybrid_adapter", "batchh=2"])
