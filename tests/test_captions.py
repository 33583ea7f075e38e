"""Captions and the motion that they are of: each says what the tracks do, in the directions meant."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import landmarks

from avatar.drivers.curves import INDEX
from avatar.drivers.expression import MOODS
from avatar.drivers.mesh import FaceBasis, ReferenceMesh
from avatar.drivers.prompt_net import TRACK, TRACKS, curves_of, head_of
from avatar.recipes.captions import MOVES_SAID, SIDED_SAID, WORDS, caption, inflect, mirrored
from avatar.recipes.moves import MOOD_NAMES, MOVES, Move, Plan
from avatar.recipes.plans import act, draw_plan
from avatar.recipes.prompt_judge import ASKED

TIME = np.arange(75) / 12.5


def plan(*names: str, size: str = "usual", speed: str = "usual") -> Plan:
    """Moves one after the other."""
    return tuple((Move(name, size, speed),) for name in names)


def acted(what: Plan, seconds: float = 6.0, seed: int = 0) -> NDArray[np.float32]:
    return act(what, seconds, TIME, np.random.default_rng(seed))


def track(tracks: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    return tracks[:, TRACK[name]]


# ---- motion ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mood", MOODS)
def test_a_mood_ends_where_the_word_for_an_expression_is(mood: str) -> None:
    end = np.mean([curves_of(acted(plan(mood), seed=seed))[-1] for seed in range(20)], 0)
    for name, value in MOODS[mood].items():
        if value < 0:
            continue  # what is taken off the photo's smile, which the motion knows nothing of
        index = INDEX[name if name in INDEX else f"{name}Left"]
        assert end[index] == pytest.approx(value, rel=0.05)  # sizes are drawn within 10 percent


@pytest.mark.parametrize(
    ("move", "name", "sign"),
    [("turn left", "yaw", -1), ("turn right", "yaw", 1), ("turn up", "pitch", -1), ("turn down", "pitch", 1),
     ("tilt left", "roll", -1), ("tilt right", "roll", 1), ("lean in", "away", -1), ("lean back", "away", 1),
     ("look left", "gazeRight", -1), ("look down", "gazeDown", 1), ("move right", "right", 1)],
)  # fmt: skip
def test_directions_are_those_of_the_picture(move: str, name: str, sign: int) -> None:
    assert sign * track(acted(plan(move)), name)[-1] > 0.05


def test_the_mesh_goes_where_the_moves_say() -> None:
    """The nose tip turns to the picture's left, the crown tilts to the right, the face grows."""
    basis = FaceBasis.load()
    mesh = ReferenceMesh(basis, landmarks(200))

    def end(move: str) -> NDArray[np.float32]:
        head = head_of(acted(plan(move))[[0, -1]])
        points = mesh.place(mesh.act(np.tile(mesh.rest, (2, 1))), head)
        return points[1] - points[0]

    assert end("turn left")[1, 0] < -5
    assert end("tilt right")[10, 0] - end("tilt right")[152, 0] > 5
    grown = end("lean in")
    assert grown[454, 0] - grown[234, 0] > 2


def test_slow_is_slower_than_fast_and_slight_is_less_than_strong() -> None:
    def way(speed: str) -> float:
        yaw = track(acted(plan("turn right", speed=speed)), "yaw")
        return int(np.argmax(yaw > 0.9 * yaw[-1])) / 12.5

    assert way("slow") > 1.9 > 1.5 > way("usual") > 0.7 > way("fast")
    ends = [track(acted(plan("turn right", size=size)), "yaw")[-1] for size in ("small", "usual", "large")]
    assert 0.08 < ends[0] < 0.16 < ends[1] < 0.29 < ends[2]


def test_steps_come_in_order_and_what_holds_stays() -> None:
    tracks = acted(plan("smile", "turn left"))
    smile, yaw = track(tracks, "mouthSmileLeft"), -track(tracks, "yaw")
    assert np.argmax(smile > 0.3) + 12 < np.argmax(yaw > 0.12)
    assert smile[-1] > 0.5
    closed = track(acted(plan("close", "open")), "eyeBlinkLeft")
    assert closed.max() > 0.8 and closed[-1] == 0
    angry = acted(plan("happy", "angry"))
    assert track(angry, "mouthSmileLeft").max() > 0.5 > 0.01 > track(angry, "mouthSmileLeft")[-1]


def test_swings_go_on_to_the_end_and_a_pulse_ends() -> None:
    nod = track(acted(plan("nod"), seconds=6), "pitch")
    assert nod.min() > -0.01 and nod[:25].max() > 0.12 < nod[50:].max()
    shake = track(acted(plan("shake")), "yaw")
    assert shake.max() > 0.1 and shake.min() < -0.1
    wink = acted(plan("wink left"))
    assert track(wink, "eyeBlinkLeft").max() > 0.8 and track(wink, "eyeBlinkLeft")[-1] == 0
    assert track(wink, "eyeBlinkRight").max() == 0
    first, then = plan("nod", "smile")
    assert np.abs(track(acted((first, then)), "pitch")[50:]).max() < 0.02


@pytest.mark.parametrize("seed", range(40))
def test_motion_begins_at_rest_and_has_no_jumps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracks = act(draw_plan(rng), 6.0, TIME, rng)
    assert tracks.shape == (75, len(TRACKS)) and np.isfinite(tracks).all()
    assert not tracks[0].any()
    head = head_of(tracks)
    assert np.abs(np.diff(head[:, :3], axis=0)).max() < 0.2  # rad in 80 ms, of the fastest shake
    assert (curves_of(tracks) >= 0).all()


# ---- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phrase", "third", "gerund"),
    [("smile", "smiles", "smiling"), ("nod once", "nods once", "nodding once"),
     ("be sad", "is sad", "being sad"), ("do not move", "does not move", "not moving"),
     ("push out her lips", "pushes out her lips", "pushing out her lips"),
     ("have a frown", "has a frown", "having a frown"), ("say yes", "says yes", "saying yes"),
     ("burst out laughing", "bursts out laughing", "bursting out laughing"),
     ("freeze", "freezes", "freezing")],
)  # fmt: skip
def test_verbs_are_inflected(phrase: str, third: str, gerund: str) -> None:
    assert (inflect(phrase, "s"), inflect(phrase, "ing"), inflect(phrase, "base")) == (third, gerund, phrase)


def test_every_move_can_be_said() -> None:
    whole = set(MOVES_SAID) | set(MOOD_NAMES)
    sided = {name.rsplit(" ", 1)[0] for name in MOVES if name not in whole}
    assert sided == set(SIDED_SAID) and whole <= set(MOVES)
    assert set(WORDS["moods"]) == set(MOOD_NAMES)


def test_captions_are_whole_sentences() -> None:
    said = set()
    for seed in range(3000):
        rng = np.random.default_rng(seed)
        text = caption(draw_plan(rng), rng)
        assert not set("{}_").intersection(text) and "  " not in text and text == text.strip()
        said.add(text)
    assert len(said) > 2500  # hardly any is said twice
    assert not {text.lower().rstrip(".") for text in said} & ASKED - {""}


@pytest.mark.parametrize("side", ["left", "right"])
def test_somebodys_own_left_is_the_pictures_right(side: str) -> None:
    other = {"left": "right", "right": "left"}[side]
    texts = [caption(plan(f"turn {side}"), np.random.default_rng(seed)) for seed in range(400)]
    own = [
        t
        for t in texts
        if any(f"{word} {other}" in t or f"{word} own {other}" in t for word in ("her", "his", "their"))
    ]
    plain = [t for t in texts if t not in own]
    assert len(own) > 60 and all(side not in t for t in own)
    assert len(plain) > 200 and all(side in t and other not in t for t in plain)


def test_eyes_and_brows_are_the_persons_own() -> None:
    texts = [caption(plan("wink left"), np.random.default_rng(seed)) for seed in range(300)]
    assert any("left eye" in t for t in texts) and not any("right" in t for t in texts)


def test_the_mirror_image_exchanges_left_and_right_in_words_and_moves() -> None:
    what = ((Move("smile"), Move("turn left", speed="slow")), (Move("wink right"),))
    told = "she smiles and slowly turns to the left, then winks with her right eye"
    twin, text = mirrored(what, told)
    assert twin == ((Move("smile"), Move("turn right", speed="slow")), (Move("wink left"),))
    assert text == "she smiles and slowly turns to the right, then winks with her left eye"
    assert mirrored(twin, text) == (what, told)


def test_the_order_is_said() -> None:
    def place(text: str, move: str) -> int:
        verbs = [verb.format(own=own) for verb in MOVES_SAID[move].verbs for own in ("her", "his", "their")]
        return max(text.find(inflect(verb, form)) for verb in verbs for form in ("s", "ing", "base"))

    for seed in range(200):
        text = caption(plan("nod", "laugh"), np.random.default_rng(seed))
        assert -1 < place(text, "nod") < place(text, "laugh"), text
