"""Prompts rewritten into one structure, in plain English words, whatever language they come in.

The nets were trained on captions that name the subject, what it does, the background, the style, the shot,
the light and the mood, in this order (section 1.5 of the design). A language model writes them, at an
OpenAI-compatible address or from a local folder; without one, rules put what is missing behind the prompt.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from avatar.errors import UserError
from avatar.generate_options import Wish

TIMEOUT = 120  # s, for an answer
KEY = "OPENAI_API_KEY"  # the variable that clients of this kind of address read
ORDER = (
    "Rewrite the user's wish for a short video as a description of that video. Answer in English, whatever "
    "the language of the wish. Use plain, concrete words, no praise. Keep every person, thing, number and "
    "name of the wish and add nothing that contradicts it. Answer with one JSON object and nothing else. "
    "Its keys are subject, action, background, style, shot, light, mood; every value is a short text: who "
    "or what is seen; what happens, in order; where; realistic, cartoon or another style; distance and "
    "movement of the camera; light; mood."
)


class Description(NamedTuple):
    """What is said of a video, in the order in which it is said; empty where nothing is."""

    subject: str
    action: str
    background: str
    style: str
    shot: str
    light: str
    mood: str

    def text(self) -> str:
        """The prompt."""
        said = [f"{self.subject} {self.action}".strip()]
        labels = self._fields[2:]
        said += [
            f"{label.capitalize()}: {part}" for label, part in zip(labels, self[2:], strict=True) if part
        ]
        return " ".join(part.strip().rstrip(".") + "." for part in said if part.strip())


# What a rule takes for a word about a part, and what it says where there is none.
_RULES = {
    "background": (
        r"background|\b(?:in|on|at) (?:the|a|an)\b|indoors?|outdoors?|street|room|sky",
        "a plain place that suits the scene",
    ),
    "style": (
        r"style|realis|cartoon|anime|animation|painting|sketch|cinematic|documentary|3d|photo",
        "realistic film",
    ),
    "shot": (
        r"\bshot\b|close-?up|camera|\bpan\b|zoom|tracking|aerial|wide angle|first-person",
        "medium shot, the camera stands still",
    ),
    "light": (
        r"light|sunn?y?\b|sunset|sunrise|dawn|dusk|night|neon|shadow|bright|dark|candle",
        "soft daylight",
    ),
    "mood": (
        r"mood|atmosphere|calm|happy|sad|tense|cheerful|gloomy|romantic|eerie|peaceful|lively",
        "calm",
    ),
}
_ASKING = re.compile(
    r"^(?:please\s+)?(?:(?:can|could) you\s+)?(?:make|create|generate|produce|render|draw|show)(?:\s+me)?\s+"
    r"(?:(?:a|an|the)\s+)?(?:short\s+)?(?:video|clip|film|movie|animation)?\s*(?:of|about|with|showing|where)?\s+",
    re.IGNORECASE,
)


def rewritten(wish: Wish) -> tuple[str, str]:
    """The prompt to be used, and what was done to it, in words for the user.

    Raises:
        UserError: it is empty, as `by_address` and `by_model`, or options that contradict each other.
    """
    prompt, how = wish.prompt.strip(), wish.rewrite or ("url" if wish.url else "none")
    if not prompt:
        raise UserError("--prompt: is empty, say what is to be seen")
    if wish.url is not None and how != "url":
        raise UserError(f"--rewrite-url: is only used with --rewrite url, not with --rewrite {how}")
    if how == "none":
        return prompt, "as given"
    if how == "rules":
        return by_rules(prompt), "rewritten by rules, not translated"
    if how == "url":
        if wish.url is None:
            raise UserError("--rewrite url: needs --rewrite-url, the address of a language model")
        return by_address(prompt, wish.url, wish.model), f"rewritten by {wish.model} at {wish.url}"
    return by_model(prompt, Path(how)), f"rewritten by {how}"


def by_rules(prompt: str) -> str:
    """The prompt without what only asks for it, and a plain word for every part that it does not speak of.

    Rules can not translate: the words stay in their language.
    """
    words = " ".join(prompt.split())
    wish = _ASKING.sub("", words) or words
    parts = {
        part: "" if re.search(pattern, wish, re.IGNORECASE) else plain
        for part, (pattern, plain) in _RULES.items()
    }
    return Description(subject=wish[:1].upper() + wish[1:], action="", **parts).text()


def by_address(prompt: str, url: str, model: str) -> str:
    """Let the model at an OpenAI-compatible address rewrite a prompt.

    Args:
        url: of the service, with or without `/chat/completions` at its end. The key in the variable
            OPENAI_API_KEY is sent along if there is one.

    Raises:
        UserError: no such service, or an answer that is no description.
    """
    address = url.rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise UserError(f"--rewrite-url {url}: must begin with http:// or https://")
    if not address.endswith("/chat/completions"):
        address += "/chat/completions"
    body = {"model": model, "messages": _messages(prompt), "temperature": 0}
    headers = {"Content-Type": "application/json"}
    if os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {os.environ[KEY]}"
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            told = json.loads(answer.read())
        content = told["choices"][0]["message"]["content"]
    except (urllib.error.URLError, OSError) as error:
        raise UserError(f"--rewrite-url {url}: no answer ({error})") from error
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"--rewrite-url {url}: not an answer of an OpenAI-compatible service") from error
    return read(str(content), f"--rewrite-url {url}").text()


def by_model(prompt: str, folder: Path) -> str:
    """Let a chat model in a local folder, as transformers reads it, rewrite a prompt.

    Raises:
        UserError: no such folder, no chat model in it, or an answer that is no description.
    """
    import torch

    from avatar.drivers.prompt_encoders import import_transformers, load_model, load_tokenizer

    if not folder.is_dir():
        raise UserError(f"--rewrite {folder}: must be none, rules, url or the folder of a language model")
    transformers = import_transformers()
    tokenizer = load_tokenizer(folder)
    if tokenizer.chat_template is None:
        raise UserError(f"--rewrite {folder}: this model has no chat template, it can not be given an order")
    model = load_model(transformers.AutoModelForCausalLM, folder, torch.bfloat16)
    given = tokenizer.apply_chat_template(
        _messages(prompt), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    told = model.generate(**given, max_new_tokens=512, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    text = tokenizer.decode(told[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    return read(text, f"--rewrite {folder}").text()


def read(answer: str, source: str) -> Description:
    """A description in an answer, which may stand between other words.

    Raises:
        UserError: it is not there, or not whole; the message begins with `source`.
    """
    start, end = answer.find("{"), answer.rfind("}")
    try:
        values: Any = json.loads(answer[start : end + 1])
    except ValueError as error:
        raise UserError(f"{source}: the model did not answer with a description: {answer[:80]!r}") from error
    missing = [name for name in Description._fields if not isinstance(values.get(name), str)]
    if missing:
        raise UserError(f"{source}: the model's description has no {', '.join(missing)}")
    return Description(*(" ".join(values[name].split()) for name in Description._fields))


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": ORDER}, {"role": "user", "content": prompt}]
