"""Prompts are encoded once and kept, by all that they depend on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch

from avatar.drivers.prompt_encoders import IMAGE, VIDEO, Folders, PromptEncoder
from avatar.loading import find
from avatar.prompts import Prompts, Wanted, identify

Checkpoints = Callable[[str], Path]


class Loads:
    """Loads the tiny encoders of a release, and counts how often."""

    def __init__(self, checkpoints: Checkpoints, preset: str) -> None:
        self.files, self.count = find(checkpoints(preset), preset), 0

    def __call__(self) -> PromptEncoder:
        self.count += 1
        template = self.files.release.template
        return PromptEncoder(self.files.encoders, template, torch.device("cpu"), torch.bfloat16)


def test_only_what_is_new_is_encoded(checkpoints: Checkpoints, own_cache: Path) -> None:
    load, kept = Loads(checkpoints, "hunyuan"), own_cache / "avatar-toolkit" / "prompts"
    prompts = Prompts(load, "one")
    first = prompts([Wanted("a cat"), Wanted("a bird")])
    again = prompts([Wanted("a bird"), Wanted("a cat")])
    assert load.count == 1 and len(list(kept.iterdir())) == 2
    for found, expected in zip(again, reversed(first), strict=True):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, expected, strict=True))
    prompts([Wanted("a bird"), Wanted("a dog")])
    Prompts(load, "two")([Wanted("a cat")])
    assert load.count == 3 and len(list(kept.iterdir())) == 4


def test_a_picture_counts(checkpoints: Checkpoints, own_cache: Path) -> None:
    load = Loads(checkpoints, "hunyuan-i2v")
    prompts, picture = Prompts(load, "one"), tiny.picture(64)
    for shown in (picture, 255 - picture, picture[:32], picture):
        prompts([Wanted("a cat", shown)])
    assert load.count == 3


def test_a_damaged_or_closed_cache_is_done_without(
    checkpoints: Checkpoints, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load = Loads(checkpoints, "hunyuan")
    prompts = Prompts(load, "one")
    (expected,) = prompts([Wanted("a cat")])
    (file,) = (own_cache / "avatar-toolkit" / "prompts").iterdir()
    file.write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING, "avatar"):
        (found,) = prompts([Wanted("a cat")])
    assert torch.equal(found.states, expected.states) and "the prompt is encoded anew" in caplog.text
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("a file in the way", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "avatar"):
        prompts([Wanted("a cat")])
    assert "the encoded prompt is not kept" in caplog.text and load.count == 3


def test_encoders_are_told_apart_by_their_files(tmp_path: Path) -> None:
    big = tmp_path / "model.safetensors"
    big.write_bytes(bytes(5 << 20))
    (tmp_path / "notes.md").write_text("one", encoding="utf-8")
    folders = Folders(language=tmp_path, language_tokenizer=tmp_path, clip=tmp_path, clip_tokenizer=tmp_path)
    first = identify(folders, VIDEO, torch.float32)
    assert first == identify(folders, VIDEO, torch.float32)
    assert first != identify(folders, IMAGE, torch.float32)
    assert first != identify(folders, VIDEO, torch.float16)
    (tmp_path / "notes.md").write_text("two", encoding="utf-8")
    assert first == identify(folders, VIDEO, torch.float32)
    for place in (0, (5 << 20) - 1):
        data = bytearray(5 << 20)
        data[place] = 1
        big.write_bytes(data)
        assert first != identify(folders, VIDEO, torch.float32)
    big.write_bytes(bytes((5 << 20) + 1))
    assert first != identify(folders, VIDEO, torch.float32)
