"""Judge a talking video from its file and its inputs: `avatar eval`.

Every figure is computed from the file as a player would show it, by public tools: MediaPipe's face mesh,
dlib's face recognition, ffmpeg. `docs/evaluation.md` says what each means. Frames are read one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from avatar import media, metrics
from avatar.errors import UserError
from avatar.following import (
    Drivers,
    gather,
    judge_following,
    judge_joints,
    judge_separation,
    separation_of_drivers,
)
from avatar.metrics import Region
from avatar.phones import Phone, align, load
from avatar.picture import Identity, PictureMeter, fit_reference
from avatar.reenactment import ReenactmentMeter, Truth, begins_with, relative
from avatar.report import Figures, File, Report, Speech, table
from avatar.watch import FaceTracker, generated_region, window_around


def speech_figures(tracks: metrics.Tracks, phones: Sequence[Phone] | None, fps: float) -> Speech:
    """The audio-driven table; without phones only the range."""
    spoken = bool(np.isfinite(tracks.aperture).any())
    p90 = metrics.peak(tracks.aperture)
    if not phones or not spoken:
        return Speech(range_p90=p90)
    r, lag = metrics.lagged_correlation(
        tracks.aperture, metrics.opening_curve(phones, len(tracks.aperture), fps)
    )
    return Speech(
        closure=metrics.closure(tracks.aperture, phones, fps),
        opening=metrics.opening(tracks.aperture, phones, fps),
        silence=metrics.silence(tracks.aperture, phones, fps),
        rounding=metrics.rounding(tracks.width, phones, fps),
        sync_r=r,
        sync_lag=lag,
        range_p90=p90,
    )


def file_figures(video: Path, info: media.VideoInfo, audio: Path | None, failed: int) -> File:
    """Length and sound of the file against the audio that drove it."""
    offset, expected = None, None
    if audio:
        expected = media.frame_count(media.audio_seconds(audio), info.fps)
        if info.has_audio:
            sound, original = media.read_audio(video), media.read_audio(audio)
            offset = metrics.sound_offset(sound, original, media.RATE) * float(info.fps)
    return File(
        frames=info.frames,
        expected_frames=expected,
        failed_frames=failed,
        sound_offset=offset,
        fps=float(info.fps),
    )


def evaluate(
    video: str | Path,
    reference: str | Path,
    audio: str | Path | None = None,
    phones: Sequence[Phone] | None = None,
    region: Region | None = None,
    identity_every: int = 1,
    drivers: Drivers | None = None,
    truth: Truth | None = None,
) -> Report:
    """All figures of one video.

    Args:
        video: the file to judge.
        reference: the picture it was made from.
        audio: the sound it was made from, for its length and alignment.
        phones: what is said when, for the speech table.
        region: generated rectangle in pixels of the reference; by default what `avatar drive` would take.
        identity_every: recognise the face in every n-th frame (the costly figure); 0 for never.
        drivers: what moved it beside the sound, from `avatar.following.gather`.
        truth: the real clip that begins with the reference, at this video's times.

    Raises:
        UserError: a file cannot be read, or the reference shows no face.
    """
    video, audio = Path(video), Path(audio) if audio else None
    photo = media.read_image(reference)
    info = media.video_info(video)
    fitted, scale = fit_reference(photo, info.height, info.width)
    place = (region or generated_region(photo)).scaled(scale)
    tracker, meter = FaceTracker(window_around(place)), PictureMeter(fitted, place, identity_every)
    beside = truth and ReenactmentMeter(truth)
    points = []
    for frame in media.read_video(video):
        points.append(tracker(frame))
        meter.add(frame, points[-1])
        if beside:
            beside.add(frame, points[-1])
    track = metrics.tracks(np.stack(points))
    fps = float(info.fps)
    notes = []
    if not phones and (audio or not drivers):
        notes.append(
            "no phones: give --phones or --transcript for closure, opening, silence, rounding and sync"
        )
    if identity_every and not Identity.available():
        notes.append("no identity: `pip install avatar-toolkit[eval]`")
    if not meter.errors:
        notes.append("no background: the generated region is the whole picture")
    if beside and not beside.ssims:
        notes.append("no SSIM: `pip install avatar-toolkit[eval]`")
    following = None
    if drivers:
        following = judge_following(track, info.fps, drivers, speaks=audio is not None)
        if drivers.joints:
            following = judge_joints(following, video, info.fps, drivers.joints)
    return Report(
        video=str(video),
        speech=speech_figures(track, phones, fps),
        picture=meter.figures(track, fps),
        file=file_figures(video, info, audio, int(np.isnan(track.aperture).sum())),
        reenactment=beside.figures() if beside else None,
        following=following,
        separation=judge_separation(track, info.fps, drivers) if drivers else None,
        notes=notes,
    )


def find_phones(audio: Path | None, phones: Path | None, transcript: str | None) -> list[Phone] | None:
    """Phones from a file, or by aligning a transcript to the audio; None where neither is given."""
    if phones:
        return load(phones)
    if not transcript:
        return None
    if not audio:
        raise UserError("--transcript needs --audio to be aligned to")
    return align(media.read_audio(audio), transcript)


def beside_truth(video: Path, truth: Path, region: Region) -> Truth:
    """The real clip at the times and the size of a video; `region` in pixels of the reference."""
    info = media.video_info(video)
    return Truth(truth, info.fps, info.frames, (info.width, info.height), region)


def notes_on(video: Path, truth: Path, same: bool) -> list[str]:
    """What is to be said of a comparison frame by frame; `same`: the truth begins with the reference."""
    if not same:
        return [f"not compared frame by frame: {truth} does not begin with the reference"]
    rate = media.video_info(truth).fps
    if media.video_info(video).fps == rate:
        return []
    return [
        f"{truth} has {float(rate):.5g} frames a second: drive with this --fps to compare each with its own"
    ]


def columns_beside(clip: Truth | None, drivers: Drivers | None, video: Path) -> dict[str, Figures]:
    """The columns beside the video's: the first frame that stays, the truth re-coded, and drivers that are
    followed exactly."""
    columns: dict[str, Figures] = {}
    if clip:
        columns["still"] = asdict(relative(clip.still, clip.still))
        columns["re-coded"] = asdict(clip.recoded)
    if drivers:
        info = media.video_info(video)
        if alike := separation_of_drivers(drivers, info.fps, info.frames):
            columns["drivers"] = asdict(alike)
    return columns


def show(
    reports: dict[str, Report],
    json_out: Path | None = None,
    beside: Mapping[str, Figures] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print reports and other columns side by side as a table, and write them as JSON: {name: report}."""
    from rich.console import Console

    console = Console(width=max(120, Console().width))
    columns = {name: report.figures() for name, report in reports.items()} | dict(beside or {})
    console.print(table(columns))
    for name, report in reports.items():
        for note in report.notes:
            console.print(f"{name}: {note}", style="dim", markup=False)
    for note in notes:
        console.print(note, style="dim", markup=False)
    if json_out:
        content = {name: report.to_json() for name, report in reports.items()} | dict(beside or {})
        json_out.write_text(json.dumps(content, indent=2, ensure_ascii=False), "utf8")


def run(
    video: Path,
    reference: Path,
    audio: Path | None,
    *,
    pose: Path | None = None,
    expression: str | None = None,
    phones: Path | None = None,
    transcript: str | None = None,
    truth: Path | None = None,
    face: str = "largest",
    identity_every: int = 1,
    json_out: Path | None = None,
) -> dict[str, Report]:
    """The command `avatar eval`: judge a video, maybe a true one beside it, print and write it."""
    said = find_phones(audio, phones, transcript)
    photo = media.read_image(reference)
    region = generated_region(photo, face)
    drivers = gather(reference, pose, expression) if pose or expression else None
    videos = {"video": video} | ({"truth": truth} if truth else {})
    same = truth is not None and begins_with(truth, photo)
    clips = {name: beside_truth(path, truth, region) for name, path in videos.items() if truth and same}
    reports = {
        name: evaluate(path, reference, audio, said, region, identity_every, drivers, clips.get(name))
        for name, path in videos.items()
    }
    notes = (drivers.notes if drivers else []) + (notes_on(video, truth, same) if truth else [])
    show(reports, json_out, columns_beside(clips.get("video"), drivers, video), notes)
    return reports
