"""The sentence encoder: the vectors of its authors, from the files of its package alone."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from avatar.drivers.text import LONGEST, PACKAGE, SentenceEncoder
from avatar.errors import UserError

pytestmark = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs {PACKAGE}")

PROMPTS = ["she smiles", "she grins", "he shakes his head", "the stock market fell again on Monday"]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder()


def test_sentences_of_like_meaning_are_close(encoder: SentenceEncoder) -> None:
    vectors = encoder(PROMPTS).pooled
    near = vectors @ vectors.T
    assert near[0, 1] > 0.8 > 0.6 > near[0, 2] > 0.4
    assert near[0, 3] < 0.1


def test_published_similarities_are_met(encoder: SentenceEncoder) -> None:
    # The quickstart of sbert.net prints 0.6660, 0.1046 and 0.1411 for these sentences and this model.
    vectors = encoder(
        ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    ).pooled
    near = vectors @ vectors.T
    assert near[[0, 0, 1], [1, 2, 2]].tolist() == pytest.approx([0.6660, 0.1046, 0.1411], abs=2e-4)


def test_pooling_is_the_normalised_mean_over_the_tokens(encoder: SentenceEncoder) -> None:
    """Mean over the mask, then length one: `1_Pooling/config.json` and `modules.json` of the package."""
    from transformers import AutoModel, AutoTokenizer

    spec = find_spec(PACKAGE)
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "model"
    tokens = AutoTokenizer.from_pretrained(folder)(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    weight = tokens["attention_mask"][..., None]
    mean = (states * weight).sum(1) / weight.sum(1)
    found = encoder(PROMPTS)
    torch.testing.assert_close(found.pooled, mean / mean.norm(dim=1, keepdim=True), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.tokens, states * weight, atol=1e-5, rtol=0)


def test_a_prompt_does_not_depend_on_those_beside_it(encoder: SentenceEncoder) -> None:
    alone, beside = encoder(PROMPTS[:1]), encoder(PROMPTS)
    length = int(alone.mask.sum())
    assert length == 4  # the two ends and two words
    assert beside.mask[0].tolist() == [True] * length + [False] * (beside.mask.shape[1] - length)
    torch.testing.assert_close(beside.tokens[0, :length], alone.tokens[0], atol=1e-5, rtol=0)
    assert (beside.tokens[0, length:] == 0).all()
    torch.testing.assert_close(beside.pooled[0], alone.pooled[0], atol=1e-6, rtol=0)


def test_nothing_said_is_two_ends(encoder: SentenceEncoder) -> None:
    found = encoder([""])
    assert found.mask.tolist() == [[True, True]] and found.pooled.isfinite().all()


def test_capitals_are_read_as_small_letters(encoder: SentenceEncoder) -> None:
    found = encoder(["She SMILES", "she smiles"])
    assert torch.equal(found.tokens[0], found.tokens[1])


def test_a_prompt_that_is_too_long_is_refused(encoder: SentenceEncoder) -> None:
    assert encoder(["smile " * (LONGEST - 2)]).mask.sum() == LONGEST
    with pytest.raises(UserError, match=f"the prompt has {LONGEST + 1} tokens, {LONGEST} can be read"):
        encoder(["smile " * (LONGEST - 1)])


def test_neither_sentence_transformers_nor_the_package_itself_is_run() -> None:
    code = f"""
import sys
sys.modules["sentence_transformers"] = sys.modules["{PACKAGE}.cli"] = None
from avatar.drivers.text import SentenceEncoder
SentenceEncoder()(["a smile"])
assert "{PACKAGE}" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_package_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avatar.drivers.text.PACKAGE", "no_such_package")
    with pytest.raises(UserError) as refused:
        SentenceEncoder()
    assert "pip install avatar-toolkit[text]" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_transformers_brings_no_notes_of_torchao() -> None:
    """In a process of its own, since both are imported once only."""
    pytest.importorskip("torchao")
    program = "from avatar.drivers.text import SentenceEncoder; SentenceEncoder()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
