"""Does motion do what the prompt says? Wordings that no template makes, beside the moves that they mean.

The response to a move is the projection of what its tracks do on what they do in motion that is made to
measure: 1 is full obedience, 0 none. What holds is measured by where it is at the end, what comes and goes by
its extreme, what swings by half its range. The leak is the root mean square of all tracks that nothing was
said about, in the units of `avatar.drivers.prompt_net`, over that of the tracks that something was said of.

Shapes: T frames at 12.5 Hz, C tracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from avatar.drivers.prompt import GUIDANCE, STEPS, PromptDriver, sample
from avatar.drivers.prompt_net import RATE, TRACK, TRACKS, UNITS, without_text
from avatar.recipes.moves import MOVES, Move, Plan, touched
from avatar.recipes.plans import act

Array = NDArray[np.float32]

SECONDS = 6.0
SEEDS = 4
END = round(1.5 * RATE)  # frames at the end, where what holds is measured
OBEYED = 0.5


class Case(NamedTuple):
    """A prompt and what it means."""

    prompt: str
    plan: Plan


def _case(prompt: str, *steps: str) -> Case:
    """Moves of a step are joined by "+"; "slow turn left" is a turn to the left, slowly."""
    plan = []
    for step in steps:
        moves = []
        for words in step.split("+"):
            kinds, name = {"size": "usual", "speed": "usual"}, words
            first, _, rest = words.partition(" ")
            if first in ("slow", "fast"):
                kinds["speed"], name = first, rest
            elif first in ("small", "large"):
                kinds["size"], name = first, rest
            moves.append(Move(name, **kinds))
        plan.append(tuple(moves))
    return Case(prompt, tuple(plan))


CASES = (
    _case("she smiles and slowly turns to the left", "smile+slow turn left"),
    _case("he looks sad and glances down", "sad+glance down"),
    _case("an angry man shaking his head", "angry+shake"),
    _case("surprised, eyebrows up", "surprised"),
    _case("nodding calmly", "calm+nod"),
    _case("the woman closes her eyes", "close"),
    _case("beaming with pride", "grin"),
    _case("she is overjoyed", "happy"),
    _case("a gloomy teenager stares at his shoes", "sad+look down"),
    _case("a teacher who is furious with her class", "angry"),
    _case("he can't believe what he sees, totally astonished", "surprised"),
    _case("terrified by a noise", "afraid"),
    _case("something smells awful, she is appalled", "disgusted"),
    _case("she peers off to the right", "look right"),
    _case("the presenter swivels her head leftward", "turn left"),
    _case("he checks something on his left-hand side, the right of the image", "look right"),
    _case("her head droops", "turn down"),
    _case("he gazes at the stars", "look up"),
    _case("his head is cocked to the right", "tilt right"),
    _case("a sceptical look, his left brow lifted", "brow left"),
    _case("she shuts her eyes tight", "close"),
    _case("a playful wink of her left eye", "wink left"),
    _case("he bobs his head in approval", "nod"),
    _case("she signals no by wagging her head", "shake"),
    _case("he bends towards the lens", "lean in"),
    _case("she recoils a little", "small lean back"),
    _case("a fit of giggles", "laugh"),
    _case("like a statue, completely immobile", "still"),
    _case("she turns to her left", "turn right"),
    _case("he turns his head to his own right", "turn left"),
    _case("first a smile, afterwards a look of anger", "smile", "angry"),
    _case("he faces right, and then he nods", "turn right", "nod"),
)
ASKED = frozenset(case.prompt.lower() for case in CASES)
QUIET = ("", "a woman talks about her holidays", "a man reading the news in a studio, 4k")


class Verdict(NamedTuple):
    """How a prompt was obeyed.

    Attributes:
        responses: to each move.
        leak: see the head of this file.
    """

    responses: tuple[float, ...]
    leak: float

    @property
    def obeyed(self) -> bool:
        """Whether every move was made, at least by half."""
        return min(self.responses) >= OBEYED


def motion_of(
    driver: PromptDriver,
    prompt: str,
    seed: int,
    *,
    negative: str = "",
    guidance: float = GUIDANCE,
    seconds: float = SECONDS,
) -> Array:
    """Tracks (T, C) that a prompt gives."""
    text = driver.encoder([prompt, negative])
    if not negative:
        text = without_text(text, torch.tensor([False, True]))
    tracks = sample(driver.net, text, seconds, guidance=guidance, seed=seed, steps=STEPS)
    return tracks[: round(seconds * RATE)]


def measured(tracks: Array, move: Move, last: bool) -> Array:
    """What the tracks of a move, in the last step or before, do in units: (tracks of the move,)."""
    motion, found = MOVES[move.name], []
    for name in sorted(touched(move.name)):
        track = tracks[:, TRACK[name]] / UNITS[TRACK[name]]
        wanted = motion.targets.get(name, 0.0)
        holds = motion.kind == "hold" or name not in motion.targets
        if holds and last:
            found.append(track[-END:].mean())
        elif holds or motion.kind == "pulse":  # a later step may take the track
            sign = np.sign(wanted or (motion.base or {}).get(name, 0.0))
            found.append(sign * (sign * track).max())
        else:
            found.append(np.sign(wanted) * np.ptp(np.percentile(track, [2, 98])) / 2)
    return np.array(found, np.float32)


def judge(driver: PromptDriver, case: Case, guidance: float = GUIDANCE, seeds: int = SEEDS) -> Verdict:
    """How a prompt is obeyed, over some seeds."""
    told = [motion_of(driver, case.prompt, seed, guidance=guidance) for seed in range(seeds)]
    return verdict(told, case.plan)


def verdict(told: Sequence[Array], plan: Plan) -> Verdict:
    """How far motions (T, C) do what a plan is."""
    time = np.arange(len(told[0])) / float(RATE)
    meant = [act(plan, SECONDS, time, np.random.default_rng(seed)) for seed in range(8)]
    moves = [(move, step is plan[-1]) for step in plan for move in step]
    responses = []
    for move, last in moves:
        is_, should = (
            np.mean([measured(tracks, move, last) for tracks in some], 0) for some in (told, meant)
        )
        responses.append(float(is_ @ should / (should @ should)))
    said = sorted({TRACK[name] for move, _ in moves for name in touched(move.name)})
    rest = [index for index in range(len(TRACKS)) if index not in said]
    power = np.mean(np.square([tracks / UNITS for tracks in told]), 0)
    return Verdict(tuple(responses), float(np.sqrt(power[:, rest].sum() / power[:, said].sum())))


def rise(track: Array) -> float:
    """Seconds from 15 to 85 percent of the way to where a track is at the end."""
    share = track / track[-END:].mean()
    low, high = (int(np.argmax(share >= level)) for level in (0.15, 0.85))
    return (high - low) / float(RATE)


def quiet(driver: PromptDriver) -> float:
    """Root mean square of the tracks, in units, under prompts that ask for no motion."""
    told = [motion_of(driver, prompt, seed) / UNITS for prompt in QUIET for seed in range(2)]
    return float(np.sqrt(np.mean(np.square(told))))


def figures(driver: PromptDriver) -> dict[str, float]:
    """The numbers of the log."""
    found = [judge(driver, case, seeds=2) for case in CASES]
    return {
        "obeys": round(median(response for one in found for response in one.responses), 3),
        "right": round(float(np.mean([one.obeyed for one in found])), 3),
        "leak": round(median(one.leak for one in found), 3),
        "quiet": round(quiet(driver), 3),
    }


def seconds_of_turn(driver: PromptDriver, how: str) -> float:
    """How long a turn takes that is made in some manner, such as "slowly"."""
    tracks = [motion_of(driver, f"she {how} rotates to the right", s)[:, TRACK["yaw"]] for s in range(SEEDS)]
    return median(rise(track) for track in tracks)


def smile(driver: PromptDriver, prompt: str, negative: str = "") -> float:
    """Smile at the end under a prompt and a negative one."""
    tracks = [motion_of(driver, prompt, seed, negative=negative) for seed in range(SEEDS)]
    return float(np.mean([part[-END:, TRACK["mouthSmileLeft"]] for part in tracks]))


def report(driver: PromptDriver) -> None:
    """Print how every prompt is obeyed, and what pace, guidance and the negative prompt do."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    title = f"{SECONDS:g} s, guidance {GUIDANCE:g}, {SEEDS} seeds"
    table = Table("prompt", "meant", "response", "leak", title=title)
    found = [judge(driver, case) for case in CASES]
    for case, one in zip(CASES, found, strict=True):
        meant = ", then ".join(" + ".join(m.name for m in step) for step in case.plan)
        said = ", ".join(f"{response:.2f}" for response in one.responses)
        colour = "green" if one.obeyed else "red"
        table.add_row(case.prompt, meant, f"[{colour}]{said}[/]", f"{one.leak:.2f}")
    console.print(table)
    console.print(f"obeyed: {sum(one.obeyed for one in found)} of {len(found)} prompts")
    console.print(f"median response: {median(r for one in found for r in one.responses):.2f}")
    console.print(f"median leak: {median(one.leak for one in found):.2f}")
    console.print(f"without anything asked: {quiet(driver):.3f} units")
    for how in ("slowly", "", "quickly"):
        console.print(f"she {how} rotates to the right: {seconds_of_turn(driver, how):.2f} s")
    for negative in ("", "smiling", "a frown"):
        console.print(
            f'a joyful face, negative "{negative}": smile {smile(driver, "a joyful face", negative):.2f}'
        )
    for guidance in (1.0, GUIDANCE, 2.5):
        turn = judge(driver, CASES[0], guidance).responses[1]
        console.print(f'"{CASES[0].prompt}" at guidance {guidance:g}: turn {turn:.2f}')
