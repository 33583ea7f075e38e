"""English captions of motion: the same plan of moves said in many ways.

Plans come from `avatar.recipes.plans`, words from captions.yaml. Directions are the picture's, as the viewer
sees it, unless they are said to be somebody's own ("to her left"); eyes and brows are always the person's own
("her left eye").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np
import yaml

from avatar.recipes.moves import MOOD_NAMES, Move, Plan

Rng = np.random.Generator


@dataclass(frozen=True)
class Wording:
    """Ways to say a move.

    Attributes:
        verbs: phrases that begin with a verb in its base form.
        nouns: what follows "with".
    """

    verbs: tuple[str, ...]
    nouns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """Who moves."""

    name: str
    again: str  # when named a second time
    own: str

    @property
    def plural(self) -> bool:
        """Whether its verbs are plural."""
        return self.name == "they"


def _read() -> dict[str, Any]:
    """The tables of captions.yaml, with phrases in tuples."""

    def parted(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: parted(below) for name, below in value.items()}
        return tuple("" if phrase == "-" else phrase for phrase in value.split("; "))

    return parted(yaml.safe_load(files("avatar.recipes").joinpath("captions.yaml").read_text("utf8")))


def _wordings(table: dict[str, dict[str, tuple[str, ...]]]) -> dict[str, Wording]:
    return {name: Wording(**phrases) for name, phrases in table.items()}


WORDS = _read()
MOVES_SAID, SIDED_SAID = _wordings(WORDS["moves"]), _wordings(WORDS["sided"])
DOUBLED = {"nod", "shut", "drop", "tip", "bob", "put", "let", "get", "cut", "sit"}  # nodding
SINGULAR = {"be": "is", "have": "has", "do not": "does not", "burst": "bursts"}


def inflect(phrase: str, form: str) -> str:
    """A phrase that begins with a verb in base form, in the form "s" (nods), "ing" (nodding) or "base"."""
    verb, space, rest = phrase.partition(" ")
    if phrase.startswith("do not "):
        rest = phrase[len("do not ") :]
        return {"s": f"does not {rest}", "ing": f"not {inflect(rest, 'ing')}"}.get(form, phrase)
    if form == "s":
        if verb in SINGULAR:
            verb = SINGULAR[verb]
        elif verb.endswith(("s", "sh", "ch", "x", "z")):
            verb += "es"
        elif verb.endswith("y") and verb[-2] not in "aeiou":
            verb = verb[:-1] + "ies"
        else:
            verb += "s"
    elif form == "ing":
        if verb in DOUBLED:
            verb += verb[-1]
        elif verb.endswith("e") and not verb.endswith("ee") and verb != "be":
            verb = verb[:-1]
        verb += "ing"
    return verb + space + rest


def caption(plan: Plan, rng: Rng) -> str:
    """One way to say a plan."""
    subject = _subject(rng)
    if not plan:
        text = (
            ""
            if rng.random() < 0.3
            else f"{subject.name} {_inflected(str(rng.choice(WORDS['talks'])), subject)}"
        )
        return text.strip()
    if len(plan) == 1:
        text = _alone(plan[0], subject, rng)
    else:
        text = _in_order([_clause(step, subject, rng) for step in plan], subject, rng)
    if rng.random() < 0.14:
        aside = str(rng.choice(WORDS["asides"])).format(again=subject.again)
        text = f"{text}{' ' if aside.startswith(('while', 'as')) else ', '}{aside}"
    return text + ("." if rng.random() < 0.2 else "")


def mirrored(plan: Plan, text: str) -> tuple[Plan, str]:
    """A plan and its caption with left and right exchanged in both."""

    def other(words: str) -> str:
        return re.sub("left|right", lambda found: {"left": "right", "right": "left"}[found[0]], words)

    return tuple(tuple(replace(move, name=other(move.name)) for move in step) for step in plan), other(text)


def _subject(rng: Rng) -> Subject:
    kind = int(rng.integers(3))
    own = ("her", "his", "their")[kind]
    name = str(rng.choice(WORDS["subjects"][own]))
    again = ("she", "he", name)[kind]
    if rng.random() < 0.35:
        name = again
    elif rng.random() < 0.12 and name != "they":
        name = f"{name} {rng.choice(WORDS['looks'])}"
    return Subject(name, again, own)


def _inflected(phrase: str, subject: Subject) -> str:
    if subject.plural:
        return "are" + phrase[2:] if phrase.startswith("be ") else phrase
    return inflect(phrase, "s")


@dataclass(frozen=True)
class Clause:
    """A step in words: verb phrases in base form, and what follows "with"."""

    verbs: tuple[str, ...]
    nouns: tuple[str, ...] = ()

    def said(self, subject: Subject, form: str) -> str:
        """The phrases in one form, joined."""
        bent = [_inflected(v, subject) if form == "s" else inflect(v, form) for v in self.verbs]
        text = " and ".join(bent) if len(bent) < 3 else f"{bent[0]}, {bent[1]} and {bent[2]}"
        return text + "".join(f" with {noun}" for noun in self.nouns[:1])


def _clause(step: Sequence[Move], subject: Subject, rng: Rng) -> Clause:
    """All moves of a step as verbs, but a last one that may follow "with"."""
    verbs = [_verb(move, subject, rng) for move in step]
    order = list(range(len(step)))
    rng.shuffle(order)
    verbs, moves = [verbs[i] for i in order], [step[i] for i in order]
    if len(step) > 1 and rng.random() < 0.25 and (noun := _noun(moves[-1], subject, rng)):
        return Clause(tuple(verbs[:-1]), (noun,))
    return Clause(tuple(verbs))


def _alone(step: Sequence[Move], subject: Subject, rng: Rng) -> str:
    """A plan of a single step."""
    kind = rng.random()
    moods = [move for move in step if move.name in MOOD_NAMES]
    rest = [move for move in step if move.name not in MOOD_NAMES]
    if moods and rest and kind < 0.5:
        return _coloured(moods[0], rest, subject, rng)
    nouns = [_noun(move, subject, rng) for move in step]
    if kind < 0.66 and all(nouns) and kind > 0.56:
        bare = ", ".join(nouns) if rng.random() < 0.5 else " and ".join(nouns)
        return bare if rng.random() < 0.5 else f"{subject.name} with {bare}"
    if moods and not rest and kind < 0.2:
        return _adjective(moods[0], rng, plain=True) + str(rng.choice(["", " person", " face", " mood"]))
    clause = _clause(step, subject, rng)
    if kind < 0.76 and len(step) > 1:
        first, *others = clause.verbs
        second = " and ".join(inflect(verb, "ing") for verb in others)
        if others:
            joint = str(rng.choice([" while ", ", ", " as well as "]))
            return f"{subject.name} {_inflected(first, subject)}{joint}{second}"
    form = str(rng.choice(["s", "is", "ing", "bare", "base"], p=[0.5, 0.14, 0.1, 0.12, 0.14]))
    if form == "s":
        return f"{subject.name} {clause.said(subject, 's')}"
    if form == "base":
        them = {"she": "her", "he": "him"}.get(subject.again, "them")
        call = str(rng.choice(WORDS["calls"]))
        return call.format(them=them, they=subject.again, base=clause.said(subject, "base"))
    said = clause.said(subject, "ing")
    if form == "bare":
        return said
    return f"{subject.name} {('are ' if subject.plural else 'is ') if form == 'is' else ''}{said}"


def _coloured(mood: Move, rest: Sequence[Move], subject: Subject, rng: Rng) -> str:
    """A mood that is said of the subject, or of how it does the rest."""
    clause = _clause(rest, subject, rng)
    verbs = clause.said(subject, "s")
    adjective, plain = _adjective(mood, rng), _adjective(mood, rng, plain=True)
    looks = f"{'look' if subject.plural else 'looks'}"
    if mood.size == "usual" and rng.random() < 0.4:
        adverb = str(rng.choice(WORDS["moods"][mood.name]["adverbs"]))
        if rng.random() < 0.3:
            return f"{clause.said(subject, 'ing')} {adverb}"
        return f"{subject.name} {verbs} {adverb}"
    noun = str(rng.choice(["man", "woman", "person", "girl"]))
    return str(
        rng.choice(
            [
                f"{_article(plain)} {noun} {inflect(clause.said(subject, 'base'), 's')}"
                if len(clause.verbs) == 1
                else f"{_article(plain)} {noun} {clause.said(subject, 'ing')}",
                f"{_article(plain)} {noun} {clause.said(subject, 'ing')}",
                f"{adjective}, {clause.said(subject, 'ing')}",
                f"{subject.name} {looks} {adjective}, {clause.said(subject, 'ing')}",
                f"{subject.name} {verbs}, looking {adjective}",
                f"{subject.name} {verbs} with {_article(plain)} {rng.choice(['face', 'expression', 'look'])}",
                f"{adjective}, {subject.name} {verbs}",
            ]
        )
    )


def _article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def _in_order(clauses: Sequence[Clause], subject: Subject, rng: Rng) -> str:
    """Steps one after the other."""
    said = [clause.said(subject, "s") for clause in clauses]
    if len(clauses) == 2:
        kind = int(rng.integers(9))
        them = {"she": "her", "he": "him"}.get(subject.again, "them")
        if kind == 0:
            return f"{subject.name} {said[0]} before {clauses[1].said(subject, 'ing')}"
        if kind == 1:
            return f"after {clauses[0].said(subject, 'ing')}, {subject.name} {said[1]}"
        if kind == 2:
            joint = str(rng.choice(["then", "and then"]))
            return f"first {subject.name} {said[0]}, {joint} {subject.again} {said[1]}"
        if kind == 3:
            base = [clause.said(subject, "base") for clause in clauses]
            return str(
                rng.choice([f"{base[0]}, then {base[1]}", f"make {them} {base[0]} and then {base[1]}"])
            )
        if kind == 4:
            ing = [clause.said(subject, "ing") for clause in clauses]
            return f"{ing[0]}{rng.choice([', then ', ' and then ', ', after that '])}{ing[1]}"
        if kind == 5:
            joint = str(rng.choice(["Then", "After that", "Next", "Afterwards"]))
            return f"{subject.name} {said[0]}. {joint} {subject.again} {said[1]}"
    text = f"{subject.name} {said[0]}"
    for number, more in enumerate(said[1:], 2):
        last = number == len(said)
        joints = [", then ", " and then ", f", then {subject.again} ", ", after that "]
        joints += [", and finally ", " and in the end "] if last and number > 2 else []
        text += str(rng.choice(joints)) + more
    return text


def _adjective(mood: Move, rng: Rng, plain: bool = False) -> str:
    words = [word for word in WORDS["moods"][mood.name]["adjectives"] if not plain or len(word.split()) == 1]
    word = str(rng.choice(words))
    degree = str(rng.choice(WORDS["degrees"][mood.size]))
    return word if word.startswith(("in ", "at ", "with", "full")) else f"{degree} {word}".strip()


def _verb(move: Move, subject: Subject, rng: Rng) -> str:
    if move.name in MOOD_NAMES:
        phrase = str(rng.choice(WORDS["mood_verbs"]))
        mood, plain = _adjective(move, rng), _adjective(move, rng, plain=True)
        phrase = phrase.replace("a {plain}", _article(plain))
        noun = str(rng.choice(WORDS["moods"][move.name]["nouns"]))
        noun = {"small": f"a little {noun}", "large": f"great {noun}"}.get(move.size, noun)
        return phrase.format(mood=mood, noun=noun, own=subject.own)
    wording, fill = _wording(move, subject, rng)
    phrase = str(rng.choice(wording.verbs))
    for adverb in _adverbs(move, rng):
        early = len(adverb.split()) == 1 and adverb not in ("fast",)
        if early and rng.random() < 0.5:
            head, space, tail = phrase.partition(" ")
            late = phrase.endswith(("{to}", "head", "eyes")) or rng.random() < 0.3
            phrase = f"{phrase} {adverb}" if late else f"{head} {adverb}{space}{tail}"
        else:
            phrase = f"{phrase} {adverb}"
    return phrase.format(**fill)


def _adverbs(move: Move, rng: Rng) -> list[str]:
    kinds = [kind for kind in (move.speed, move.size) if kind != "usual"]
    return [str(rng.choice(WORDS["adverbs"][kind])) for kind in kinds]


def _noun(move: Move, subject: Subject, rng: Rng) -> str:
    """What follows "with"; "" where there are no such words for a move."""
    if move.name in MOOD_NAMES:
        word = _adjective(move, rng, plain=True)
        return f"{_article(word)} {rng.choice(['face', 'expression', 'look', 'look on the face'])}"
    wording, fill = _wording(move, subject, rng)
    if not wording.nouns:
        return ""
    noun = str(rng.choice(wording.nouns)).format(**fill)
    return " ".join([noun, *_adverbs(move, rng)])


def _wording(move: Move, subject: Subject, rng: Rng) -> tuple[Wording, dict[str, str]]:
    """How a move is said, and what its braces stand for."""
    if move.name in MOVES_SAID:
        return MOVES_SAID[move.name], {"own": subject.own}
    kind, side = move.name.rsplit(" ", 1)
    fill = {"own": subject.own, "side": side, "to": _direction(side, subject, rng)}
    return SIDED_SAID[kind], fill


def _direction(side: str, subject: Subject, rng: Rng) -> str:
    """A direction of the picture in words."""
    said = WORDS["directions"]
    if side in ("up", "down"):
        return str(rng.choice(said[side])).format(own=subject.own)
    if rng.random() < 0.25:
        own = {"left": "right", "right": "left"}[side]
        return str(rng.choice(said["own"])).format(own=subject.own, d=own)
    return str(rng.choice(said["plain"])).format(d=side)
