"""Text, or text and pictures, to video by the public nets: encode, noise, flow, decode.

Each net is used in one block and may leave the device after it. Memory of the decode does not grow with the
length: frames come in temporal tiles. Sections 1.3, 1.5 and 2.6 of the design; the sampler and the nets were
compared with diffusers (docs/public-weights.md).

Shape legend: B = 1, C latent channels, T latent frames, h w latent height and width, H W pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar.adapters.pose import PoseAdapter
from avatar.backbone import flow
from avatar.backbone.dit import TIME_SCALE, DiT
from avatar.backbone.image_condition import concat_condition, hold_first, start_from
from avatar.backbone.step_cache import StepCache
from avatar.backbone.vae import CausalVAE
from avatar.device import pick_device
from avatar.drivers.pose import PoseSignal
from avatar.drivers.prompt_encoders import Encoded, PromptEncoder
from avatar.errors import UserError
from avatar.framing import Pixels, as_clip, bucket, cover
from avatar.generate_options import NO_POSE, GenerateOptions, NetOptions
from avatar.loading import (
    ByBlocks,
    Placed,
    ReleaseFiles,
    check_mapped,
    find,
    load_dit,
    load_vae,
    pick_dtype,
    small_dtype,
)
from avatar.pose_video import Posed, load_pose_adapter, skeleton_latents
from avatar.prompts import Prompts, Wanted, identify
from avatar.releases import Release

logger = logging.getLogger(__name__)

Step = Callable[[], None]
"""Called after every evaluation step of the sampler."""

TEXT_SIZE = (720, 1280)  # px, height and width of a video from text alone


@dataclass(frozen=True)
class Scene:
    """What a video is made from, encoded.

    Attributes:
        text: the prompt.
        negative: what guidance leads away from; None without guidance.
        size: of the frames, (H, W).
        first: (1, C, 1, h, w), latents of the first frame; None where it is not given.
        last: the same of the last frame.
        pose: adds a pose to what the net is given.
    """

    text: Encoded
    negative: Encoded | None
    size: tuple[int, int]
    first: Tensor | None = None
    last: Tensor | None = None
    pose: Posed | None = None


@dataclass(kw_only=True)
class Nets:
    """What a pipeline works with; each net is on the device inside its block.

    Attributes:
        dit: gives the DiT, ready on the device.
        vae: gives the VAE, ready on the device.
        prompts: encodes prompts.
        device: where the tensors between them are.
        whisper: folder of the encoder of speech; None for releases that do not hear.
        cache: skips blocks in similar steps; None to run all.
        pose: a trained pose adapter; None for nets that know no poses, as the public ones.
        told: what is worth saying about the nets before they run.
    """

    release: Release
    dit: Callable[[], AbstractContextManager[DiT]]
    vae: Callable[[], AbstractContextManager[CausalVAE]]
    prompts: Callable[[list[Wanted]], list[Encoded]]
    device: torch.device
    whisper: Path | None = None
    cache: StepCache | None = None
    pose: PoseAdapter | None = None
    told: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, options: NetOptions) -> Nets:
        """Nets of a folder of public weights: looked at, and loaded when each is used.

        Raises:
            UserError: files are missing or do not fit, all are named; or no such preset, device or type.
        """
        device, dtype = pick_device(options.device), pick_dtype(options.dtype)
        files = find(options.weights, options.preset, dit_weight=options.dit_weight, fp8=options.fp8)
        small = small_dtype(device, dtype)
        template = files.release.template
        if options.block_offload:
            check_mapped(files, dtype)
        pose = None
        if options.pose_adapter is not None:
            config, channels = files.release.dit, files.release.vae.latent_channels
            pose = load_pose_adapter(options.pose_adapter, config, channels).to(device)
        cache = None if options.step_cache is None else StepCache(options.step_cache)

        def make() -> DiT:
            net = load_dit(files, dtype, options.loras, options.quantise)
            net.cache = cache
            return net

        return cls(
            release=files.release,
            dit=ByBlocks(make, device) if options.block_offload else Placed(make, device, options.offload),
            vae=Placed(lambda: load_vae(files, small), device, options.offload),
            prompts=Prompts(
                lambda: PromptEncoder(files.encoders, template, device, small),
                identify(files.encoders, template, small),
            ),
            device=device,
            whisper=files.whisper,
            cache=cache,
            pose=pose,
            told=_told(files, options, device, small),
        )


def _told(
    files: ReleaseFiles, options: NetOptions, device: torch.device, small: torch.dtype
) -> dict[str, str]:
    """Names and values for the user."""
    types = [str(kind).removeprefix("torch.") for kind in (pick_dtype(options.dtype), small)]
    told = {
        "preset": files.preset,
        "weights": str(files.dit),
        "device": str(device),
        "types": f"DiT {types[0]}, VAE and text encoders {types[1]}",
    }
    if options.quantise:
        told["blocks"] = f"{options.quantise} weights"
    if options.block_offload:
        told["blocks"] = "read from the file as they run"
    if options.step_cache is not None:
        told["step_cache"] = f"{options.step_cache:g}"
    return told


class VideoPipeline:
    """Makes videos from prompts and pictures.

    Example:
        nets = Nets.load(NetOptions(weights=Path("ckpts"), preset="hunyuan"))
        pipeline = VideoPipeline(nets)
        scene = pipeline.prepare("a cat walks on the grass", options)
        frames = pipeline.frames(pipeline.sample(scene, options, seed=1))
    """

    def __init__(self, nets: Nets) -> None:
        self.nets = nets

    def check(self, options: GenerateOptions, first: Pixels | None, last: Pixels | None) -> None:
        """Refuse what the release's net can not do.

        Raises:
            UserError: the message names the option.
        """
        release = self.nets.release
        if options.embedded_cfg_scale is not None and not release.dit.guidance_embed:
            raise UserError("--embedded-cfg-scale: this net has no distilled guidance, use --cfg-scale")
        wanted = release.dit.clean_first_frame or release.dit.condition_channels > 0
        if wanted and first is None:
            raise UserError("--image: this preset makes a video from its first frame, give a picture")
        if not wanted and (first is not None or last is not None):
            raise UserError("--image: this preset knows no pictures, use --preset hunyuan-i2v")
        if last is not None and not release.dit.condition_channels:
            raise UserError("--last: this net only knows a first frame, use --preset hunyuan-i2v-concat")
        if last is not None and options.video_length < 9:
            raise UserError(f"--video-length {options.video_length}: with --last it must be at least 9")
        if options.cfg_scale == 1 and (options.neg_prompt is not None or options.guidance_rescale):
            logger.warning("without --cfg-scale above 1 there is no guidance: --neg-prompt does nothing")

    @torch.no_grad()
    def prepare(
        self,
        prompt: str,
        options: GenerateOptions,
        first: Pixels | None = None,
        last: Pixels | None = None,
        pose: PoseSignal | None = None,
    ) -> Scene:
        """Encode the prompt and the pictures.

        Args:
            first: first frame, RGB of any size; its middle is cut out and scaled to the video's size.
            last: last frame, the same.
            pose: the pose of a person in every frame, for nets with a pose adapter.

        Raises:
            UserError: as `check`, or the prompt does not fit.
        """
        self.check(options, first, last)
        release = self.nets.release
        size = options.video_size or (TEXT_SIZE if first is None else bucket(first, options.i2v_resolution))
        wanted = [Wanted(release.prompt_prefix + prompt.strip(), first)]
        if options.cfg_scale > 1:
            negative = release.negative_prompt if options.neg_prompt is None else options.neg_prompt
            wanted.append(Wanted(negative, None if first is None else np.zeros_like(first)))
        encoded = self.nets.prompts(wanted)
        return Scene(
            text=encoded[0],
            negative=encoded[1] if len(encoded) > 1 else None,
            size=size,
            first=None if first is None else self._encode(cover(first, size)),
            last=None if last is None else self._encode(cover(last, size)),
            pose=None if pose is None else self._posed(pose, options, size),
        )

    @torch.no_grad()
    def sample(self, scene: Scene, options: GenerateOptions, seed: int, step: Step = lambda: None) -> Tensor:
        """Latents (1, C, T, h, w) of a video, in float32."""
        release, device = self.nets.release, self.nets.device
        sampling, held = release.sampling, release.dit.clean_first_frame
        vae = release.vae
        frames = (options.video_length - 1) // vae.time_factor + 1
        height, width = (side // vae.space_factor for side in scene.size)
        start = flow.noise((1, vae.latent_channels, frames, height, width), seed).to(device)
        condition = None
        if scene.first is not None:
            share = sampling.image_share if options.i2v_stability else 0.0
            start = start_from(start, scene.first, share, held)
            if not held:
                condition = concat_condition(scene.first, frames, scene.last)
        times = flow.schedule(
            options.infer_steps, options.flow_shift or sampling.shift, reverse=options.flow_reverse
        )
        embedded = options.embedded_cfg_scale
        if embedded is None:
            embedded = sampling.embedded_guidance
        with self.nets.dit() as net, one_clip(net.cache):
            dtype = next(net.parameters()).dtype
            guidance = None if embedded is None else torch.tensor([embedded], device=device, dtype=dtype)

            def predict(x: Tensor, time: float, encoded: Encoded) -> Tensor:
                if net.cache is not None:
                    net.cache.branch = encoded is scene.text
                given = x, condition
                if scene.pose is not None:
                    given = scene.pose(*given)
                return net(
                    given[0].to(dtype),
                    torch.tensor([TIME_SCALE * time], device=device),
                    None if given[1] is None else given[1].to(dtype),
                    text=encoded.states.to(device, dtype),
                    text_mask=encoded.mask.to(device),
                    pooled=encoded.pooled.to(device, dtype),
                    guidance=guidance,
                ).float()

            def velocity(x: Tensor, time: float) -> Tensor:
                found = predict(x, time, scene.text)
                if scene.negative is not None:
                    other = predict(x, time, scene.negative)
                    found = flow.guide(found, other, options.cfg_scale, options.guidance_rescale)
                step()
                return found

            moved = hold_first(velocity, scene.first) if held and scene.first is not None else velocity
            return flow.euler(moved, start, times)

    def frames(self, latents: Tensor) -> Iterator[Pixels]:
        """Frames (H, W, 3) of latents, as they are decoded; those that a release drops are left out."""
        yield from islice(decode(self.nets, latents), self.nets.release.sampling.dropped_frames, None)

    def _posed(self, pose: PoseSignal, options: GenerateOptions, size: tuple[int, int]) -> Posed:
        adapter, fps = self.nets.pose, Fraction(self.nets.release.sampling.fps)
        if adapter is None:
            raise UserError(NO_POSE)
        with self.nets.vae() as vae:
            latents = skeleton_latents(vae, pose, size, fps, options.video_length)
        return Posed(adapter, latents, options.pose_scale)

    def _encode(self, picture: Pixels) -> Tensor:
        """Scaled latents (1, C, 1, h, w) of a picture (H, W, 3), the mean of what the VAE says."""
        with self.nets.vae() as vae:
            return vae.encode_tiled(as_clip(picture).to(next(vae.parameters()))).float()


@contextmanager
def one_clip(cache: StepCache | None) -> Iterator[None]:
    """A cache remembers nothing before the block, and holds no tokens after it."""
    if cache is None:
        yield
        return
    cache.clear()
    try:
        yield
    finally:
        cache.clear()


def decode(nets: Nets, latents: Tensor) -> Iterator[Pixels]:
    """All frames (H, W, 3) of scaled latents (1, C, T, h, w)."""
    with nets.vae() as vae:
        for piece in vae.decode_stream([latents.to(next(vae.parameters()))]):
            values = ((piece[0].float() / 2 + 0.5).clamp(0, 1) * 255).round()
            yield from values.to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()
