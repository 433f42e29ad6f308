"""A small ETL over plain functions. Nothing here knows about Ork."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

MEASURES = ("Beak Length (mm)", "Beak Depth (mm)", "Flipper Length (mm)", "Body Mass (g)")
SEXES = ("MALE", "FEMALE")


@dataclass
class Ingested:
    path: str
    rows: int


@dataclass
class Cleaned:
    path: str
    kept: int
    dropped: dict[str, int]


class Summary(TypedDict):
    species: str
    count: int
    mass_mean: float
    mass_min: float
    mass_max: float
    flipper_mean: float


def ingest(source: str, folder: str) -> Ingested:
    """Copies the records to the run's own folder, one JSON object a line."""
    records = json.loads(Path(source).read_text())
    target = Path(folder) / "raw.jsonl"
    target.write_text("".join(json.dumps(record) + "\n" for record in records))
    print(f"read {len(records)} records from {source}")
    return Ingested(path=str(target), rows=len(records))


def fault(record: dict) -> str | None:
    """Says why a record cannot be used."""
    if any(record[measure] is None for measure in MEASURES):
        return "measurement missing"
    if record["Sex"] not in SEXES:
        return "sex unknown"
    return None


def clean(raw: str) -> Cleaned:
    """Keeps the records that can be used, and counts the others by reason."""
    dropped: dict[str, int] = {}
    kept = []
    for line in Path(raw).read_text().splitlines():
        record = json.loads(line)
        if reason := fault(record):
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            kept.append(record)
    target = Path(raw).with_name("clean.jsonl")
    target.write_text("".join(json.dumps(record) + "\n" for record in kept))
    print(f"kept {len(kept)}, dropped {dropped}")
    return Cleaned(path=str(target), kept=len(kept), dropped=dropped)


def aggregate(cleaned: str) -> list[Summary]:
    """Summarises mass and flipper length by species."""
    by_species: dict[str, list[dict]] = {}
    for line in Path(cleaned).read_text().splitlines():
        record = json.loads(line)
        by_species.setdefault(record["Species"], []).append(record)
    return [summarise(species, records) for species, records in sorted(by_species.items())]


def summarise(species: str, records: list[dict]) -> Summary:
    masses = [record["Body Mass (g)"] for record in records]
    flippers = [record["Flipper Length (mm)"] for record in records]
    return {
        "species": species,
        "count": len(records),
        "mass_mean": round(statistics.fmean(masses), 1),
        "mass_min": float(min(masses)),
        "mass_max": float(max(masses)),
        "flipper_mean": round(statistics.fmean(flippers), 1),
    }


def report(summaries: list[Summary], path: str) -> str:
    """Draws the range and mean of the mass of each species, and returns where the chart is."""
    Path(path).write_text(chart(summaries))
    print(f"wrote {path}")
    return path


def chart(summaries: list[Summary], width: int = 640, row: int = 56, left: int = 110) -> str:
    top = max(summary["mass_max"] for summary in summaries)

    def x(mass: float) -> float:
        return left + (width - left - 70) * mass / top

    rows = []
    for i, summary in enumerate(summaries):
        y = 60 + i * row
        rows.append(
            f'<text x="{left - 12}" y="{y + 5}" text-anchor="end">{summary["species"]}</text>'
            f'<line x1="{x(summary["mass_min"]):.1f}" x2="{x(summary["mass_max"]):.1f}" y1="{y}" y2="{y}"'
            f' stroke="#4c78a8" stroke-width="14" stroke-linecap="round" opacity="0.35"/>'
            f'<circle cx="{x(summary["mass_mean"]):.1f}" cy="{y}" r="7" fill="#4c78a8"/>'
            f'<text x="{x(summary["mass_max"]) + 14:.1f}" y="{y + 5}">{summary["mass_mean"]:.0f} g</text>'
        )
    height = 50 + row * len(summaries)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        f' font-size="14"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="16" y="28" font-size="16">Body mass by species: range and mean</text>{"".join(rows)}</svg>\n'
    )


def reject(rows: int, kept: int, min_kept: float) -> None:
    """Ends the run badly when too little is left."""
    raise SystemExit(f"only {kept} of {rows} records can be used, fewer than {min_kept:.0%}")
