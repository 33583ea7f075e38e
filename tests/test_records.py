"""Footage made to be kept or to be dropped, read as `avatar prepare` reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import convert
from PIL import Image, ImageDraw, ImageFont

from avatar.errors import UserError
from avatar.media import read_image
from avatar.recipes.filters import REASON, judge
from avatar.recipes.records import Reading, Record, parts, read_part

READING = Reading(shortest=1.0)
Read = Callable[[Path], list[Record]]
# Six copies of the talking head in one frame.
GRID = "scale=212:212,split=6[a][b][c][d][e][f];[a][b][c]hstack=3[g];[d][e][f]hstack=3[h];[g][h]vstack"


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Records of a video that is one part."""

    def one(path: Path) -> list[Record]:
        (part,) = parts(path, path.stem.ljust(32, "0"))
        return read_part(part, READING, tmp_path_factory.mktemp("read"))

    return one


def reasons(records: list[Record]) -> set[str]:
    """Filters that drop the footage, all of them."""
    found: set[str] = set()
    for record in records:
        if record.measures is None:
            assert record.reason in REASON
            found.add(record.reason)
        else:
            found |= {reason.filter for reason in judge(record.measures)}
    return found


def test_a_talking_head_is_kept_whole(talking: Path, read: Read) -> None:
    (record,) = read(talking)
    assert reasons([record]) == set()
    assert record.measures is not None and record.caption is not None
    assert record.count == 97 and record.count % 4 == 1 and record.first < 25  # from a sharp frame on
    assert record.sound and record.measures.people == 1
    assert record.measures.sync is not None and record.measures.sync > 0.4
    assert record.measures.consistency is not None and record.measures.consistency > 0.08
    assert record.measures.sounds["speech"] > 0.5 and record.measures.sounds["pure music"] < 0.1
    # The head fills 2.6 face heights, so that the square is the whole picture.
    assert record.crop[2] >= 500 and min(record.crop[:2]) >= 0
    assert record.measures.face == pytest.approx(198, rel=0.08)
    assert record.caption["camera_movement"] == "static shot"
    assert record.caption["short"].endswith("speaks to the camera.")
    assert {"short", "dense", "background", "style", "shot_type", "light", "mood"} < set(record.caption)
    assert Record.load(asdict(record)) == record


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("blurred", ("-vf", "gblur=sigma=7", "-t", "2.4"), {"blur"}),
        ("late", ("-af", "adelay=500|500", "-c:v", "copy"), {"off-sync"}),
        ("silent", ("-an", "-c:v", "copy"), {"silence"}),
        ("small", ("-vf", "scale=150:150,pad=640:360:200:100:gray", "-t", "2.4"), {"face size"}),
        ("many", ("-filter_complex", GRID, "-t", "1.6"), {"people"}),
        ("empty", ("-vf", "drawbox=t=fill:c=gray", "-t", "2"), {"no person"}),
        ("brief", ("-t", "0.8"), {"short"}),
    ],
)
def test_made_footage_is_dropped_for_its_reason(
    talking: Path, read: Read, tmp_path: Path, name: str, options: tuple[str, ...], expected: set[str]
) -> None:
    records = read(convert(talking, tmp_path / f"{name}.mp4", *options))
    assert records
    assert expected <= reasons(records)
    if name not in ("small", "many", "blurred"):  # a small or blurred mouth is not read well
        assert reasons(records) == expected


def test_a_clip_starts_where_the_film_is_sharp(talking: Path, read: Read, tmp_path: Path) -> None:
    focus = "gblur=sigma=8:enable='lt(t,0.4)'"
    (record,) = read(convert(talking, tmp_path / "focus.mp4", "-vf", focus, "-c:a", "copy"))
    assert 10 <= record.first < 25 and "blur" not in reasons([record])


def test_a_still_picture_is_dropped(talking: Path, read: Read, tmp_path: Path) -> None:
    frozen = "trim=end_frame=1,loop=99:1:0,setpts=N/25/TB"
    records = read(convert(talking, tmp_path / "still.mp4", "-vf", frozen, "-t", "2.4"))
    assert "still" in reasons(records)


def test_a_shaken_camera_is_dropped(talking: Path, read: Read, tmp_path: Path) -> None:
    shake = "scale=600:600,crop=512:512:44+44*sin(n*0.4):44+44*cos(n*0.4)"
    records = read(convert(talking, tmp_path / "shaken.mp4", "-vf", shake, "-t", "2.4"))
    assert "too much motion" in reasons(records)


def test_a_face_that_goes_everywhere_is_dropped(talking: Path, read: Read, tmp_path: Path) -> None:
    walk = "scale=200:200,pad=1500:200:600:0:gray,crop=900:200:5*n:0"
    records = read(convert(talking, tmp_path / "walk.mp4", "-vf", walk, "-t", "2.4"))
    assert {"wanders", "out of frame"} <= reasons(records)


def test_text_over_the_picture_is_dropped(talking: Path, read: Read, tmp_path: Path) -> None:
    banner = Image.new("RGBA", (512, 512))
    pen = ImageDraw.Draw(banner)
    pen.rectangle((0, 440, 512, 512), fill=(20, 20, 60, 255))
    pen.text((20, 455), "BREAKING NEWS TODAY", fill="white", font=ImageFont.load_default(40))
    banner.save(tmp_path / "banner.png")
    overlay = ("-i", str(tmp_path / "banner.png"), "-filter_complex", "overlay", "-t", "2.4")
    records = read(convert(talking, tmp_path / "text.mp4", *overlay))
    assert reasons(records) == {"text"}
    (part,) = parts(tmp_path / "text.mp4", "t" * 32)
    (unasked,) = read_part(part, Reading(shortest=1.0, text=False), tmp_path / "unasked")
    assert unasked.measures is not None and unasked.measures.text is None


def test_two_shots_are_two_clips_with_a_picture_each(talking: Path, tmp_path: Path) -> None:
    other = "crop=380:380:66:40,scale=512:512,eq=brightness=0.15,hue=h=40"
    both = (
        f"[0:v]split[a][b];[a]trim=end=2,setpts=PTS-STARTPTS[c];[b]trim=start=2,setpts=PTS-STARTPTS,{other}"
    )
    film = convert(
        talking,
        tmp_path / "two.mp4",
        "-filter_complex",
        f"{both}[d];[c][d]concat",
        "-map",
        "0:a",
        "-c:a",
        "copy",
    )
    (part,) = parts(film, "k" * 32)
    records = read_part(part, READING, tmp_path)
    assert len(records) == 2
    assert records[0].first + records[0].count <= 50 <= records[1].first
    for record in records:
        assert read_image(tmp_path / "pictures" / f"{record.id}.jpg").shape == (160, 160, 3)


def test_bars_are_no_part_of_a_clip(talking: Path, read: Read, tmp_path: Path) -> None:
    bars = "pad=800:700:144:94:black"
    (record,) = read(convert(talking, tmp_path / "bars.mp4", "-vf", bars, "-t", "2.4"))
    x, y, side = record.crop
    assert x >= 144 and y >= 94 and x + side <= 144 + 512 and y + side <= 94 + 512


def test_what_was_read_is_not_read_again(talking: Path, tmp_path: Path) -> None:
    (part,) = parts(talking, "k" * 32)
    first = read_part(part, READING, tmp_path)
    path = tmp_path / "records" / f"{part.name}.json"
    written = path.stat().st_mtime_ns
    assert read_part(part, READING, tmp_path) == first
    assert path.stat().st_mtime_ns == written
    assert not list(tmp_path.rglob("*.part"))


def test_a_film_without_frames_is_said(tmp_path: Path) -> None:
    (tmp_path / "none.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="empty"):
        parts(tmp_path / "none.mp4", "k" * 32)
