"""Text for the public video nets: states of a language model in a fixed template, and one vector from CLIP.

The nets were trained on the third from last hidden states of Llama 3 (for pictures, of LLaVA on it) while it
reads an order to describe a video and then the prompt; the tokens of the order are cut off (section 4 of the
reference). Templates and counts are parts of the released weights: other words give other videos.

Shape legend: B = 1, L tokens, D channels of the language model, P of CLIP, H W height and width of a picture.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar.errors import UserError

logger = logging.getLogger(__name__)

TOKENS = 256  # of the prompt, after the template's
CLIP_TOKENS = 77
STATE = -3  # of the hidden states, no final norm
PICTURE_TOKEN, HEADER_END = "<image>", "<|end_header_id|>"
# Mean and standard deviation of the pixels that CLIP was trained on, RGB in 0..1.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class Template:
    """What stands around a prompt.

    Attributes:
        before: words before it.
        after: words after it.
        crop: tokens that `before` has, with the one that begins every text; a picture counts as one.
        picture: where a picture's tokens stand: `first` are moved in front of the prompt's, every
            `stride`-th of them; `last` stay behind it.
        squash: the picture is pressed into a square; else its middle square is cut out.
    """

    before: str
    after: str
    crop: int
    picture: Literal["none", "first", "last"] = "none"
    stride: int = 1
    squash: bool = False


_ASPECTS = (
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:<|eot_id|>"
)
_SYSTEM, _USER = (f"<|start_header_id|>{who}<|end_header_id|>\n\n" for who in ("system", "user"))
_DESCRIBE = "Describe the video by detailing the following aspects"

VIDEO = Template(before=f"{_SYSTEM}{_DESCRIBE}: {_ASPECTS}{_USER}", after="<|eot_id|>", crop=95)
IMAGE = Template(
    before=f"{_SYSTEM}<image>\n{_DESCRIBE} according to the reference image: {_ASPECTS}\n\n{_USER}",
    after="<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    crop=103,
    picture="first",
    stride=4,  # 144 tokens
)
IMAGE_CONCAT = Template(**{**IMAGE.__dict__, "stride": 2})  # 288 tokens
SPEAKER = Template(
    before=VIDEO.before,
    after="<|eot_id|>\nThe person looks like<image>",
    crop=95,
    picture="last",
    squash=True,
)


class Encoded(NamedTuple):
    """A prompt as the nets see it.

    Attributes:
        states: (1, L, D).
        mask: (1, L), True for tokens that count.
        pooled: (1, P).
    """

    states: Tensor
    mask: Tensor
    pooled: Tensor


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where the encoders are: folders as transformers writes them."""

    language: Path
    language_tokenizer: Path
    clip: Path
    clip_tokenizer: Path


class PromptEncoder:
    """The two encoders, loaded; `encode` may be called again and again.

    Args:
        folders: local folders; nothing is ever downloaded.
        template: the release's.
        dtype: of the weights.

    Raises:
        UserError: transformers is not installed, or a folder does not hold what it should.
    """

    def __init__(
        self, folders: Folders, template: Template, device: torch.device, dtype: torch.dtype
    ) -> None:
        import_transformers()
        from transformers import CLIPTextModel, LlamaModel, LlavaForConditionalGeneration

        self.template, self.device = template, device
        self.tokenizer = load_tokenizer(folders.language_tokenizer)
        self.clip_tokenizer = load_tokenizer(folders.clip_tokenizer)
        self.clip = load_model(CLIPTextModel, folders.clip, dtype, "clip", "clip_text_model").to(device)
        if template.picture == "none":
            self.llava = None
            self.language = load_model(LlamaModel, folders.language, dtype, "llama").to(device)
        else:
            whole = load_model(LlavaForConditionalGeneration, folders.language, dtype, "llava")
            self.llava = whole.to(device).model
            self.language = self.llava.language_model

    @torch.no_grad()
    def encode(self, prompt: str, picture: NDArray[np.uint8] | None = None) -> Encoded:
        """States, mask and vector of one prompt, on the CPU.

        Args:
            picture: RGB (H, W, 3), for templates that have one.

        Raises:
            UserError: the prompt leaves no room for the picture.
        """
        template = self.template
        text = template.before + prompt + template.after
        given = self.tokenizer(
            text,
            max_length=TOKENS + template.crop,
            padding="max_length",
            truncation=True,
            padding_side="right",
            return_tensors="pt",
        )
        ids, mask = given["input_ids"].to(self.device), given["attention_mask"].to(self.device).bool()
        if len(self.tokenizer(text)["input_ids"]) > ids.shape[1]:
            logger.warning("the prompt is longer than %d tokens, the rest is not read", TOKENS)
        if self.llava is None:
            states = self._states(self.language.get_input_embeddings()(ids), mask)
            states, mask = states[:, template.crop :], mask[:, template.crop :]
        else:
            assert picture is not None
            states, mask = self._with_picture(ids, mask, picture)
        return Encoded(states.cpu(), mask.cpu(), self._pooled(prompt).cpu())

    def _with_picture(self, ids: Tensor, mask: Tensor, picture: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """States and mask of text with a picture in the place of its one token."""
        template = self.template
        places = (ids[0] == self.tokenizer.convert_tokens_to_ids(PICTURE_TOKEN)).nonzero()
        if len(places) != 1:
            raise UserError(
                f"--prompt: too long for a net that is shown a picture, {TOKENS} tokens with all around it"
                if template.picture == "last" and not len(places)
                else f"--prompt: must not contain {PICTURE_TOKEN}"
            )
        place, seen = int(places), self._look(picture)
        extra = seen.shape[1] - 1
        # Padding is zero, as it was when these nets were trained: `last` lets some of it count.
        words = self.language.get_input_embeddings()(ids) * mask[..., None]
        counts = torch.ones_like(mask[:, :1]).expand(-1, extra)
        mixed = torch.cat([words[:, :place], seen.to(words), words[:, place + 1 :]], dim=1)
        states = self._states(mixed, torch.cat([mask[:, :place], counts, mask[:, place:]], dim=1))
        if template.picture == "last":
            # The mask grows at its end, as in the released code, not where the picture stands.
            return states[:, template.crop :], torch.cat([mask, counts], dim=1)[:, template.crop :]
        shown = states[:, place : place + extra + 1 : template.stride]
        # The four tokens that call the assistant are cut out; they end before the last break of the text.
        ends = (ids[0, template.crop :] == self.tokenizer.convert_tokens_to_ids(HEADER_END)).nonzero()
        end = template.crop + int(ends[-1]) + 1 if len(ends) else ids.shape[1]
        kept = torch.tensor([*range(template.crop, end - 4), *range(end, ids.shape[1])], device=ids.device)
        joined = torch.cat([shown, states[:, kept + extra]], dim=1)
        return joined, torch.cat([torch.ones_like(counts[:, : shown.shape[1]]), mask[:, kept]], dim=1)

    def _states(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """(1, L, D) of embedded tokens; padding stands at position 1, where it disturbs nothing."""
        positions = (mask.long().cumsum(1) - 1).masked_fill(~mask, 1)
        given = {"attention_mask": mask.long(), "position_ids": positions, "use_cache": False}
        return self.language(inputs_embeds=embedded, output_hidden_states=True, **given).hidden_states[STATE]

    def _look(self, picture: NDArray[np.uint8]) -> Tensor:
        """A picture's tokens, (1, patches, D)."""
        assert self.llava is not None
        tower, config = self.llava.vision_tower, self.llava.config
        pixels = clip_pixels(picture, config.vision_config.image_size, self.template.squash)
        seen = tower(pixels.to(self.device, tower.dtype), output_hidden_states=True)
        return self.llava.multi_modal_projector(seen.hidden_states[config.vision_feature_layer][:, 1:])

    def _pooled(self, prompt: str) -> Tensor:
        given = self.clip_tokenizer(
            prompt,
            max_length=CLIP_TOKENS,
            padding="max_length",
            truncation=True,
            padding_side="right",
            return_tensors="pt",
        )
        # No mask: the released nets were trained with CLIP reading its own padding.
        return self.clip(input_ids=given["input_ids"].to(self.device)).pooler_output


def clip_pixels(picture: NDArray[np.uint8], side: int, squash: bool) -> Tensor:
    """A picture (H, W, 3) as CLIP sees it, (1, 3, side, side), normalised.

    Args:
        squash: press it into the square (linear); else scale its short side (cubic) and cut out the middle.
    """
    from PIL import Image

    image = Image.fromarray(picture)
    if squash:
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    else:
        width, height = (int(side * n / min(image.size)) for n in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    pixels = torch.from_numpy(np.asarray(image, np.float32) / 255)
    return ((pixels - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)).permute(2, 0, 1)[None]


def import_transformers() -> Any:
    """The transformers library, quiet.

    Raises:
        UserError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            "text encoders need transformers: install it by `pip install avatar-toolkit[text]`"
        ) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder.

    Raises:
        UserError: it can not be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds
        raise UserError(f"{folder}: no tokenizer that can be read ({_first_line(error)})") from error


def read_config(folder: Path) -> Any:
    """What transformers knows of the model in a folder, with its defaults.

    Raises:
        UserError: it can not be read.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds
        raise UserError(f"{folder}: no config.json that can be read ({_first_line(error)})") from error


def load_model(kind: Any, folder: Path, dtype: torch.dtype, *types: str) -> Any:
    """A model of transformers from a folder's safetensors, in evaluation mode.

    Args:
        types: what the folder's config may call its model; all without any.

    Raises:
        UserError: it can not be read, is of another type, or some of its tensors are not there.
    """
    found = read_config(folder).model_type
    if types and found not in types:  # transformers would build the default model, of 7 B for Llama
        raise UserError(f"{folder}: holds {found}, not {types[0]}")
    try:
        model, told = kind.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # transformers raises many kinds
        raise UserError(f"{folder}: not a {kind.__name__} that can be read ({_first_line(error)})") from error
    if told["missing_keys"]:  # transformers would fill these with noise
        names = ", ".join(sorted(told["missing_keys"]))
        raise UserError(f"{folder} does not fit {kind.__name__}: missing: {names}")
    return model.eval().requires_grad_(False)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]
