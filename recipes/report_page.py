"""A page that shows what `avatar prepare` kept and dropped, and why: plain HTML, with pictures beside it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from avatar.recipes.records import write_text

SHOWN = 300  # pictures of a section, more make a page that no browser likes
STYLE = """
body { font: 15px/1.4 sans-serif; margin: 2em; max-width: 1300px }
table { border-collapse: collapse } td, th { padding: .2em 1em .2em 0; text-align: left }
.cards { display: flex; flex-wrap: wrap; gap: 10px } figure { margin: 0; width: 160px; font-size: 12px }
img { width: 160px; min-height: 40px; background: #ddd } .validation img { outline: 3px solid #36c }
"""

Entry = Mapping[str, Any]


def write_report(path: Path, index: Sequence[Entry], dropped: Sequence[Entry], notes: Sequence[str]) -> None:
    """Write the page.

    Args:
        path: of the page; pictures are looked for in `pictures/` beside it.
        index: entries of index.json.
        dropped: of dropped.json.
        notes: what could not be done as asked.
    """
    people: dict[str, list[Entry]] = defaultdict(list)
    for entry in index:
        people[entry["identity"]].append(entry)
    causes: dict[str, list[Entry]] = defaultdict(list)
    for entry in dropped:
        for reason in entry["reasons"]:
            causes[reason["filter"]].append(entry)
    body = ["<h1>Footage</h1>", *(f"<p>{escape(note)}</p>" for note in notes), _totals(index, dropped)]
    body += ["<h2>Kept</h2><p>Validation has a blue frame.</p>"]
    for name, entries in sorted(people.items()):
        body += [f"<h3>{escape(name)}</h3>", _cards(map(_kept, entries), len(entries))]
    body += ["<h2>Dropped</h2>"]
    for cause, entries in sorted(causes.items()):
        cards = (_dropped(entry, cause) for entry in entries)
        body += [f"<h3>{escape(cause)}</h3>", _cards(cards, len(entries))]
    head = f'<!doctype html><meta charset="utf-8"><title>Footage</title><style>{STYLE}</style>'
    write_text(path, "\n".join([head, *body]) + "\n")


def _totals(index: Sequence[Entry], dropped: Sequence[Entry]) -> str:
    def row(name: str, entries: Iterable[Entry]) -> str:
        entries = list(entries)
        seconds = sum(entry.get("seconds", 0) for entry in entries)
        return f"<tr><td>{escape(name)}</td><td>{len(entries)}</td><td>{seconds:.1f}</td></tr>"

    rows = [row(split, (e for e in index if e["split"] == split)) for split in ("train", "validation")]
    counts = Counter(reason["filter"] for entry in dropped for reason in entry["reasons"])
    for cause, _ in counts.most_common():
        rows.append(
            row(f"dropped: {cause}", (e for e in dropped if cause in {r["filter"] for r in e["reasons"]}))
        )
    stages = Counter(entry["stage"] for entry in index)
    rows += [row(f"stage {stage}", (e for e in index if e["stage"] == stage)) for stage in sorted(stages)]
    return f"<table><tr><th></th><th>clips</th><th>seconds</th></tr>{''.join(rows)}</table>"


def _cards(cards: Iterable[str], count: int) -> str:
    shown = [card for _, card in zip(range(SHOWN), cards, strict=False)]
    more = f"<p>and {count - len(shown)} more</p>" if count > len(shown) else ""
    return f'<div class="cards">{"".join(shown)}</div>{more}'


def _card(entry: Entry, kind: str, lines: Sequence[str]) -> str:
    where = f"{entry['source']} at {entry['start']:.1f} s" if "start" in entry else entry["source"]
    picture = f'<img loading="lazy" src="pictures/{escape(entry["id"])}.jpg" alt="">' if "id" in entry else ""
    said = "<br>".join(escape(line) for line in (where, *lines))
    return f'<figure class="{kind}">{picture}<figcaption>{said}</figcaption></figure>'


def _kept(entry: Entry) -> str:
    caption = entry["caption"]
    lines = (
        f"{entry['seconds']:.1f} s, stage {entry['stage']}",
        caption["short"],
        caption["camera_movement"],
    )
    return _card(entry, entry["split"], lines)


def _dropped(entry: Entry, cause: str) -> str:
    return _card(entry, "dropped", [r["says"] for r in entry["reasons"] if r["filter"] == cause])
