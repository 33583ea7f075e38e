"""Prompts rewritten: by rules, by a service, by a local model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from avatar.errors import UserError
from avatar.generate_options import Wish
from avatar.rewrite import ORDER, Description, by_rules, read, rewritten

ANSWER = {
    "subject": "A young woman in a red coat",
    "action": "walks a dog",
    "background": "a snowy park",
    "style": "realistic",
    "shot": "medium shot",
    "light": "soft light",
    "mood": "calm",
}
TEXT = (
    "A young woman in a red coat walks a dog. Background: a snowy park. Style: realistic. Shot: medium shot. "
    "Light: soft light. Mood: calm."
)


@contextmanager
def service(answer: bytes, status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Address of a server that gives one answer, and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def completion(content: str) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


def test_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    wish = "\u5973\u4eba\u905b\u72d7"
    with service(completion(f"Here it is:\n```json\n{json.dumps(ANSWER)}\n```")) as (url, asked):
        text, how = rewritten(Wish(wish, None, url, "qwen"))
    assert text == TEXT and how == f"rewritten by qwen at {url}"
    (request,) = asked
    assert (request["path"], request["model"]) == ("/v1/chat/completions", "qwen")
    assert [m["content"] for m in request["messages"]] == [ORDER, wish]
    assert request["key"] == "Bearer secret"


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (completion("I can not do that"), 200, "did not answer with a description: 'I can not do that'"),
        (completion(json.dumps({**ANSWER, "mood": None})), 200, "description has no mood"),
        (b"<html>", 200, "not an answer of an OpenAI-compatible service"),
        (b'{"choices": []}', 200, "not an answer of an OpenAI-compatible service"),
        (b"", 500, "no answer .*500"),
    ],
)
def test_service_that_fails_is_named(answer: bytes, status: int, message: str) -> None:
    with (
        service(answer, status) as (url, _),
        pytest.raises(UserError, match=f"--rewrite-url {url}: .*{message}"),
    ):
        rewritten(Wish("a dog", "url", url))


def test_no_service() -> None:
    with pytest.raises(UserError, match=r"--rewrite-url http://127\.0\.0\.1:9: no answer"):
        rewritten(Wish("a dog", "url", "http://127.0.0.1:9"))
    with pytest.raises(UserError, match="--rewrite-url file:///etc/passwd: must begin with http"):
        rewritten(Wish("a dog", "url", "file:///etc/passwd"))


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (
            "please make a video of a cat",
            "A cat. Background: a plain place that suits the scene. Style: realistic film. "
            "Shot: medium shot, the camera stands still. Light: soft daylight. Mood: calm.",
        ),
        (
            "A cartoon cat sleeps on a sofa at night, close-up, eerie mood",
            "A cartoon cat sleeps on a sofa at night, close-up, eerie mood.",
        ),
        ("Can you show me a clip of dogs in the sun", None),
        ("ein Hund\n l\u00e4uft", None),
    ],
)
def test_rules(prompt: str, text: str | None) -> None:
    found = by_rules(prompt)
    if text is not None:
        assert found == text
    assert found[0].isupper() and "\n" not in found and "clip of" not in found
    assert by_rules(found) == found  # nothing is added twice


def test_what_is_done_is_always_said(tmp_path: Path) -> None:
    assert rewritten(Wish("  a dog ")) == ("a dog", "as given")
    assert rewritten(Wish("a dog", "none"))[1] == "as given"
    assert rewritten(Wish("a dog", "rules"))[1] == "rewritten by rules, not translated"
    with pytest.raises(UserError, match="must be none, rules, url or the folder of a language model"):
        rewritten(Wish("a dog", str(tmp_path / "no")))


def test_description_is_one_line() -> None:
    told = read(json.dumps({**ANSWER, "action": " walks\n a dog. ", "mood": ""}), "it")
    assert told.text() == TEXT.removesuffix(" Mood: calm.")
    assert isinstance(told, Description)


def test_local_model(tmp_path: Path) -> None:
    """A Llama whose one block does nothing, so that it says after each word the one it was built to say."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    said = json.dumps({name: f"{name}word" for name in ANSWER}).split(" ")
    words = ["<bos>", "<eos>", "<unk>", *said]
    assert len(set(words)) == len(words)
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.WhitespaceSplit(), decoders.WordPiece(prefix="##")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<bos>", eos_token="<eos>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}<bos>"
    size = len(words)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size + size % 2,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        head_dim=4,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    follows = {0: 3, **{i: i + 1 for i in range(3, size - 1)}, size - 1: 1}
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.zero_().fill_diagonal_(1)
        model.lm_head.weight.zero_()
        for now, after in follows.items():
            model.lm_head.weight[after, now] = 1
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    text, how = rewritten(Wish("a dog", str(tmp_path)))
    assert text.startswith("subjectword actionword. Background: backgroundword. Style: styleword.")
    assert how == f"rewritten by {tmp_path}"
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(UserError, match="has no chat template"):
        rewritten(Wish("a dog", str(tmp_path)))
