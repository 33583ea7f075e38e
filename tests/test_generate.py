"""Text and pictures to video: against the pipelines of diffusers on the same tiny weights, and to the mp4."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from avatar import weights
from avatar.adapters.pose import PoseAdapter
from avatar.backbone import flow
from avatar.backbone.diffusers_keys import to_diffusers
from avatar.cli import app
from avatar.drivers.pose import PoseSignal
from avatar.drivers.prompt_encoders import PromptEncoder, clip_pixels
from avatar.drivers.skeleton import POINTS
from avatar.errors import UserError
from avatar.framing import as_clip, bucket, cover
from avatar.generate import Nets, VideoPipeline
from avatar.generate_options import GenerateOptions, NetOptions
from avatar.loading import find
from avatar.media import read_video, video_info

Checkpoints = Callable[[str], Path]

PROMPT, NEGATIVE = "a man in a yellow coat reads a newspaper", "rain"
SIZE, LENGTH = (64, 96), 9  # px, height and width; frames
ERROR = 1e-4  # relative, in float32, of the whole way
OPTIONS = {"video_size": SIZE, "video_length": LENGTH, "infer_steps": 3, "seed": 5}


def pipeline(checkpoints: Checkpoints, preset: str, **options: Any) -> VideoPipeline:
    return VideoPipeline(
        Nets.load(
            NetOptions(weights=checkpoints(preset), preset=preset, dtype="fp32", device="cpu", **options)
        )
    )


def picture(seed: int = 0) -> np.ndarray:
    """Of the video's size, so that nothing is resized."""
    return tiny.picture(SIZE[1], seed)[: SIZE[0]]


def theirs(checkpoints: Checkpoints, preset: str) -> Any:
    """The pipeline of diffusers with the weights of a folder."""
    files = find(checkpoints(preset), preset)
    ours = weights.load(files.dit, preset)
    concat = "latent_concat" if ours.config.condition_channels else None
    kind = "token_replace" if ours.config.clean_first_frame else concat
    transformer = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=16 + ours.config.condition_channels,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=32,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=2,
        guidance_embeds=ours.config.guidance_embed,
        text_embed_dim=32,
        pooled_projection_dim=24,
        rope_axes_dim=ours.config.rope_channels,
        image_condition_type=kind,
    )
    transformer.load_state_dict(to_diffusers(ours.tensors))
    vae = diffusers.AutoencoderKLHunyuanVideo(
        block_out_channels=(32, 32, 32, 32), layers_per_block=1, scaling_factor=0.476986
    )
    vae.load_state_dict(weights.load(files.vae).tensors)
    encoder = PromptEncoder(files.encoders, files.release.template, torch.device("cpu"), torch.float32)
    parts: dict[str, Any] = {
        "tokenizer": encoder.tokenizer,
        "transformer": transformer.eval(),
        "vae": vae.eval(),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        "text_encoder_2": encoder.clip,
        "tokenizer_2": encoder.clip_tokenizer,
    }
    if kind is None:
        return diffusers.HunyuanVideoPipeline(text_encoder=encoder.language, **parts)
    from transformers import LlavaForConditionalGeneration

    llava = LlavaForConditionalGeneration.from_pretrained(files.encoders.language, dtype=torch.float32).eval()
    made = diffusers.HunyuanVideoImageToVideoPipeline(text_encoder=llava, image_processor=None, **parts)
    made.image_processor = Eyes()
    llava.config.pad_token_id = encoder.tokenizer.pad_token_id
    # For the negative prompt diffusers forgets how many of the picture's tokens are taken.
    made.encode_prompt = partial(made.encode_prompt, image_embed_interleave=files.release.template.stride)
    return made


class Eyes:
    """Pixels for the language model, by this project's reading of CLIP's rules (tested on their own)."""

    def __call__(self, image: Any, return_tensors: str) -> Any:
        pixels = clip_pixels(np.asarray(image.convert("RGB")), 336, squash=False)
        return type("Batch", (), {"pixel_values": pixels})


def error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("preset", ["hunyuan", "hunyuan-i2v", "hunyuan-i2v-concat"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.usefixtures("own_cache")
def test_latents_and_frames_are_those_of_diffusers(
    checkpoints: Checkpoints, preset: str, guidance: float
) -> None:
    """Prompt, template, noise, guidance with a negative prompt, picture, sampler and decode, all at once."""
    ours, reference = pipeline(checkpoints, preset), theirs(checkpoints, preset)
    shown = None if preset == "hunyuan" else picture()
    options = GenerateOptions(**OPTIONS, cfg_scale=guidance, neg_prompt=NEGATIVE if guidance > 1 else None)
    scene = ours.prepare(PROMPT, options, shown)
    latents = ours.sample(scene, options, 5)
    given: dict[str, Any] = {} if shown is None else {"image": Image.fromarray(shown)}
    expected = reference(
        prompt=PROMPT,
        negative_prompt=NEGATIVE if guidance > 1 else None,
        true_cfg_scale=guidance,
        guidance_scale=6.0,
        height=SIZE[0],
        width=SIZE[1],
        num_frames=LENGTH,
        num_inference_steps=3,
        latents=flow.noise((1, 16, (LENGTH - 1) // 4 + 1, SIZE[0] // 8, SIZE[1] // 8), 5),
        output_type="latent",
        **given,
    ).frames
    # With the picture on the channels diffusers leaves the first latent frame out here, and we do so below.
    assert error(latents[:, :, -expected.shape[2] :], expected) <= ERROR
    frames = np.stack(list(ours.frames(latents)))
    clip = reference.vae.decode(latents / 0.476986).sample[0, :, ours.nets.release.sampling.dropped_frames :]
    pixels = ((clip / 2 + 0.5).clamp(0, 1) * 255).permute(1, 2, 3, 0).detach().numpy()
    assert frames.shape == pixels.shape and frames.dtype == np.uint8
    assert np.abs(frames - pixels).max() <= 0.51


@pytest.mark.usefixtures("own_cache")
def test_first_and_last_frame(checkpoints: Checkpoints) -> None:
    """The last picture stands in the last latent frame of the condition, with its mask, and is heard."""
    ours = pipeline(checkpoints, "hunyuan-i2v-concat")
    options = GenerateOptions(**OPTIONS)
    scenes = [ours.prepare(PROMPT, options, picture(), last) for last in (None, picture(1), picture(2))]
    made = [ours.sample(scene, options, 5) for scene in scenes]
    assert error(made[0], made[1]) > 1e-3 and error(made[1], made[2]) > 1e-3
    assert scenes[1].last is not None and scenes[1].last.shape == (1, 16, 1, 8, 12)
    with ours.nets.vae() as vae:
        assert torch.allclose(scenes[1].last, vae.encode(as_clip(picture(1))), atol=1e-6)


@pytest.mark.usefixtures("own_cache")
def test_given_first_frame_is_in_the_latents(checkpoints: Checkpoints) -> None:
    ours, options = pipeline(checkpoints, "hunyuan-i2v"), GenerateOptions(**OPTIONS)
    scene = ours.prepare(PROMPT, options, picture())
    assert scene.first is not None
    assert torch.equal(ours.sample(scene, options, 5)[:, :, :1], scene.first)


@pytest.mark.usefixtures("own_cache")
def test_every_option_of_the_sampler_is_heard(checkpoints: Checkpoints) -> None:
    ours = pipeline(checkpoints, "hunyuan")

    def latents(seed: int = 5, **changes: Any) -> Tensor:
        options = GenerateOptions(**OPTIONS | changes)
        return ours.sample(ours.prepare(PROMPT, options), options, seed)

    plain = latents()
    assert torch.equal(plain, latents())
    for changes in (
        {"flow_shift": 3.0},
        {"embedded_cfg_scale": 1.0},
        {"cfg_scale": 2.0},
        {"infer_steps": 2},
        {"flow_reverse": False},
    ):
        assert error(latents(**changes), plain) > 1e-3, changes
    assert error(latents(seed=6), plain) > 1e-3
    guided = latents(cfg_scale=2.0)
    assert error(latents(cfg_scale=2.0, neg_prompt="a dog"), guided) > 1e-4
    assert error(latents(cfg_scale=2.0, guidance_rescale=1.0), guided) > 1e-4


@pytest.mark.usefixtures("own_cache")
def test_what_a_net_can_not_do_is_refused(checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    text, image, concat = (
        pipeline(checkpoints, preset) for preset in ("hunyuan", "hunyuan-i2v", "hunyuan-i2v-concat")
    )
    plain = GenerateOptions(**OPTIONS)
    cases = (
        (text, plain, (picture(), None), "--image: this preset knows no pictures"),
        (image, plain, (None, None), "--image: this preset makes a video from its first frame"),
        (image, plain, (picture(), picture()), "--last: this net only knows a first frame"),
        (concat, GenerateOptions(embedded_cfg_scale=6), (picture(), None), "--embedded-cfg-scale: this net"),
        (concat, GenerateOptions(video_length=5), (picture(), picture()), "--video-length 5: with --last"),
    )
    for pipe, options, pictures, message in cases:
        with pytest.raises(UserError, match=message):
            pipe.check(options, *pictures)
    with caplog.at_level(logging.WARNING, "avatar"):
        text.check(GenerateOptions(neg_prompt="rain"), None, None)
    assert "--neg-prompt does nothing" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"video_length": 128}, "--video-length 128: must be 4n \\+ 1, for example 125 or 129"),
        ({"video_size": (10, 100)}, "--video-size 10 100: each side must be 64 to 4096"),
        ({"infer_steps": 0}, "--infer-steps 0: must be greater than or equal to 1"),
        ({"cfg_scale": 0.5}, "--cfg-scale 0.5: must be"),
        ({"guidance_rescale": 2}, "--guidance-rescale 2: must be"),
        ({"infer_step": 3}, "unknown option 'infer_step', did you mean 'infer_steps'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GenerateOptions(**options)


def test_sizes_are_rounded_up_to_whole_tokens() -> None:
    assert GenerateOptions(video_size=(541, 960)).video_size == (544, 960)


@pytest.mark.parametrize(
    ("shape", "resolution", "size"),
    [
        ((1000, 1000), "720p", (960, 960)),
        ((720, 1280), "720p", (704, 1248)),
        ((1280, 720), "720p", (1248, 704)),
        ((720, 1280), "540p", (544, 928)),
        ((100, 1000), "360p", (224, 896)),  # at most four times as long as wide
    ],
)
def test_size_by_the_picture(shape: tuple[int, int], resolution: str, size: tuple[int, int]) -> None:
    """Expected sizes are what the code of HunyuanVideo-I2V gave, which agreed on 900 random pictures too."""
    height, width = bucket(np.zeros((*shape, 3), np.uint8), resolution)
    base = {"720p": 960, "540p": 720, "360p": 480}[resolution]
    assert height % 32 == width % 32 == 0 and height * width <= base**2
    assert (height, width) == size


def test_cover_cuts_out_the_middle() -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 255
    found = cover(wide, (64, 64))
    assert found.shape == (64, 64, 3)
    assert found[:, 2:-2].min() == 255  # beside the blur of the edges


def run(checkpoints: Checkpoints, preset: str, out: Path, *more: object) -> Any:
    """`avatar generate` in this process: small, with three steps."""
    size = ["--video-size", *SIZE, "--video-length", LENGTH, "--infer-steps", 3, "--dtype", "fp32"]
    words = ["generate", "--prompt", PROMPT, "--weights", checkpoints(preset), "--preset", preset]
    result = CliRunner().invoke(app, [str(w) for w in (*words, "--save-path", out, *size, *more)])
    if isinstance(result.exception, Exception):
        raise result.exception
    return result


@pytest.mark.usefixtures("own_cache")
def test_command_line_to_mp4(checkpoints: Checkpoints, tmp_path: Path) -> None:
    shown = tmp_path / "first.png"
    Image.fromarray(picture()).save(shown)
    out = tmp_path / "videos"
    told = run(checkpoints, "hunyuan", out, "--num-videos", 2, "--seed", 5, "--rewrite", "rules")
    assert sorted(path.name for path in out.iterdir()) == ["seed5.mp4", "seed6.mp4"]
    assert "prompt (rewritten by rules, not translated): A man in a yellow coat" in told.stderr
    assert "infer_steps 3" in told.stderr and "float32" in told.stderr
    videos = [np.stack(list(read_video(out / name))) for name in ("seed5.mp4", "seed6.mp4")]
    assert np.abs(videos[0].astype(int) - videos[1]).mean() > 1
    info = video_info(out / "seed5.mp4")
    assert (info.width, info.height, info.frames, info.fps) == (96, 64, LENGTH, 24)
    with pytest.raises(UserError, match=r"seed5\.mp4: exists already, use --force"):
        run(checkpoints, "hunyuan", out, "--seed", 5)
    run(checkpoints, "hunyuan-i2v", tmp_path / "i2v.mp4", "--image", shown)
    assert video_info(tmp_path / "i2v.mp4").frames == LENGTH
    run(checkpoints, "hunyuan-i2v-concat", tmp_path / "both.mp4", "--image", shown, "--last", shown)
    assert video_info(tmp_path / "both.mp4").frames == LENGTH - 4  # this release drops the first four


def test_command_line_refuses_before_anything_loads(checkpoints: Checkpoints, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    cases = (
        (["--save-path", tmp_path / "no" / "a.mp4"], "no: no such folder"),
        (["--lora", "style.safetensors:much"], "--lora style.safetensors:much: the strength after : must be"),
        (["--lora", tmp_path / "none.safetensors"], "none.safetensors: no such file"),
        (["--image", tmp_path / "none.png"], "none.png: no such picture"),
        (["--audio", tmp_path / "none.wav"], "--audio: only --preset hunyuan-avatar hears"),
        (["--rewrite", "url"], "--rewrite url: needs --rewrite-url"),
        (["--rewrite", "rules", "--rewrite-url", "http://localhost"], "is only used with --rewrite url"),
        (["--image-size", 256], "--image-size: is for videos with speech"),
        (["--pose", tmp_path / "dance.mp4"], "--pose: the public weights know no poses, give an adapter"),
        (["--pose-scale", 2], "--pose-adapter, --pose-scale: have no effect without --pose"),
        (["--step-cache", 2], "--step-cache 2: must be above 0 and at most 1"),
        (["--use-fp8"], "missing .*mp_rank_00_model_states_fp8.pt"),
        (["--dit-weight", tmp_path / "net.pt"], "missing .*net.pt"),
    )
    for words, message in cases:
        with pytest.raises(UserError, match=message):
            run(checkpoints, "hunyuan", out, *words)
        assert not out.exists()
    with pytest.raises(UserError, match="--prompt: is empty"):
        run(checkpoints, "hunyuan", out, "--prompt", " ")
    with pytest.raises(UserError, match="--preset hunyuan-avatar: needs --image, the speaker, and --audio"):
        run(checkpoints, "hunyuan-avatar", out)


@pytest.mark.usefixtures("own_cache")
def test_lora_is_merged(checkpoints: Checkpoints, tmp_path: Path) -> None:
    factors = {
        "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": torch.ones(2, 64),
        "lora_unet_double_blocks_0_img_attn_proj.lora_up.weight": torch.ones(64, 2),
    }
    save_file(factors, path := tmp_path / "style.safetensors")
    plain = pipeline(checkpoints, "hunyuan")
    styled = pipeline(checkpoints, "hunyuan", loras=((path, 0.5),))
    with plain.nets.dit() as one, styled.nets.dit() as other:
        change = other.double_blocks[0].img_attn_proj.weight - one.double_blocks[0].img_attn_proj.weight
    assert torch.allclose(change, torch.full((64, 64), 0.5 * 2), atol=1e-6)  # strength * rank, alpha = rank


@pytest.mark.usefixtures("own_cache")
def test_step_cache_skips_and_forgets(checkpoints: Checkpoints) -> None:
    options = GenerateOptions(**OPTIONS | {"infer_steps": 6, "cfg_scale": 2.0})
    plain, cached = pipeline(checkpoints, "hunyuan"), pipeline(checkpoints, "hunyuan", step_cache=1.0)
    scene = plain.prepare(PROMPT, options)
    expected, cache = plain.sample(scene, options, 5), cached.nets.cache
    assert plain.nets.cache is None and cache is not None
    found = [cached.sample(scene, options, 5) for _ in range(2)]
    assert torch.equal(*found)  # nothing of one clip is left in the next
    assert cache.skips >= 4 and cache.skips + cache.whole == 2 * 6 * 2  # clips, steps, branches
    assert 0 < error(found[0], expected) < 0.5
    never = pipeline(checkpoints, "hunyuan", step_cache=1e-9).sample(scene, options, 5)
    assert torch.equal(never, expected)


@pytest.mark.usefixtures("own_cache")
def test_blocks_from_their_file_give_the_same(checkpoints: Checkpoints) -> None:
    options = GenerateOptions(**OPTIONS)
    held = next(
        iter(weights.load(find(checkpoints("hunyuan"), "hunyuan").dit, "hunyuan").tensors.values())
    ).dtype
    names = {torch.float32: "fp32", torch.bfloat16: "bf16"}
    nets = NetOptions(weights=checkpoints("hunyuan"), preset="hunyuan", dtype=names[held], device="cpu")
    plain, streamed = (VideoPipeline(Nets.load(replace(nets, block_offload=on))) for on in (False, True))
    scene = plain.prepare(PROMPT, options)
    assert torch.equal(streamed.sample(scene, options, 5), plain.sample(scene, options, 5))
    assert streamed.nets.told["blocks"] == "read from the file as they run"
    with pytest.raises(UserError, match="--dtype fp16: with --block-offload numbers are used as they are in"):
        Nets.load(replace(nets, dtype="fp16", block_offload=True))


def test_nets_that_can_not_be_had_together_are_refused() -> None:
    nets = NetOptions(weights=Path("ckpts"), preset="hunyuan", block_offload=True)
    for change, flag in (({"fp8": True}, "--use-fp8"), ({"quantise": "int8"}, "--quantise")):
        with pytest.raises(UserError, match=f"{flag}: changes the weights, which --block-offload reads"):
            replace(nets, **change)
    with pytest.raises(UserError, match="--step-cache 0: must be above 0 and at most 1"):
        replace(nets, step_cache=0.0)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
@pytest.mark.usefixtures("own_cache")
def test_blocks_in_8_bits(checkpoints: Checkpoints, kind: str) -> None:
    pytest.importorskip("torchao")
    options = GenerateOptions(**OPTIONS)
    plain, small = pipeline(checkpoints, "hunyuan"), pipeline(checkpoints, "hunyuan", quantise=kind)
    scene = plain.prepare(PROMPT, options)
    assert 1e-5 < error(small.sample(scene, options, 5), plain.sample(scene, options, 5)) < 0.1
    assert small.nets.told["blocks"] == f"{kind} weights"


def standing(frames: int) -> PoseSignal:
    """A pose whose points are anywhere in the frame."""
    points = np.random.default_rng(0).uniform(0, 1, (1, POINTS, 2)) * (SIZE[1], SIZE[0])
    keypoints = np.repeat(points, frames, 0).astype(np.float32)
    scores = np.ones((frames, POINTS), np.float32)
    return PoseSignal(fps=Fraction(24), keypoints=keypoints, scores=scores, size=(SIZE[1], SIZE[0]))


@pytest.mark.parametrize("preset", ["hunyuan", "hunyuan-i2v-concat"])
@pytest.mark.usefixtures("own_cache")
def test_pose_is_added_by_its_adapter(checkpoints: Checkpoints, tmp_path: Path, preset: str) -> None:
    channels = find(checkpoints(preset), preset).release.dit
    adapter = PoseAdapter(16, channels.in_channels + channels.condition_channels)
    torch.manual_seed(0)
    for step, size in enumerate((0.0, 0.2)):
        torch.nn.init.normal_(adapter.proj.weight, std=size)
        save_file(adapter.state_dict(), tmp_path / f"pose{step}.safetensors")
    options = GenerateOptions(**OPTIONS)
    shown = picture() if preset == "hunyuan-i2v-concat" else None
    found = []
    for file in ("pose0", "pose1"):
        ours = pipeline(checkpoints, preset, pose_adapter=tmp_path / f"{file}.safetensors")
        scene = ours.prepare(PROMPT, options, shown, pose=standing(LENGTH))
        assert scene.pose is not None and scene.pose.latents.shape == (1, 16, 3, SIZE[0] // 8, SIZE[1] // 8)
        found.append(ours.sample(scene, options, 5))
    plain = pipeline(checkpoints, preset)
    scene = plain.prepare(PROMPT, options, shown)
    assert torch.equal(found[0], plain.sample(scene, options, 5))  # an adapter at its start adds nothing
    assert error(found[1], found[0]) > 1e-3
    with pytest.raises(UserError, match="--pose: the public weights know no poses"):
        plain.prepare(PROMPT, options, shown, pose=standing(LENGTH))
    save_file({"proj.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        UserError, match=r"other\.safetensors: does not fit this net, it must hold proj\.weight"
    ):
        pipeline(checkpoints, preset, pose_adapter=tmp_path / "other.safetensors")
