"""The kept clips as the files that trainers read, in the formats that are asked for.

OUT/dataset/SPLIT/videos/*.mp4      hard links to OUT/clips where the disk allows it
    videofolder   /metadata.jsonl               Hugging Face VideoFolder
    cogvideo      /prompts.txt + videos.txt     CogVideo
    finetrainers  /prompt.txt  + videos.txt     finetrainers
    opensora      /open_sora.csv                Open-Sora
    webdataset    OUT/shards/SPLIT-000000.tar   WebDataset
    parquet       OUT/manifest.parquet, OUT/embeddings.parquet

Every list says who wrote a caption and whether a clip was HDR (PQ, HLG) and tone-mapped: fields of
their own, or caption_from.txt and tone_mapped.txt beside the prompts. A "template" knows colours
and motion only, and describes nothing.
"""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_lab.config import Checked
from vidgen_lab.files import plain
from vidgen_lab.journal import key_of
from vidgen_lab.pipeline.deliver.output import Output, inside
from vidgen_lab.pipeline.manifest import Row, sort_rows

LISTS = ("videofolder", "cogvideo", "finetrainers", "opensora")
FORMATS = (*LISTS, "webdataset", "parquet")
_PER_SHARD = 500  # clips in one tar


@dataclass(frozen=True)
class ExportSettings(Checked, formats=FORMATS):
    """What is written: `formats`, of FORMATS; by default the small text files beside the clips."""

    formats: tuple[str, ...] = LISTS


def final_rows(rows: Iterable[Row]) -> list[Row]:
    """The clips that came through every stage, in the order of their ids."""
    done = (row for row in rows if row.stage == "split" and row.status == "kept")
    return sorted(done, key=lambda row: row.clip_id)


def write_exports(rows: Sequence[Row], out: str | Path, formats: Sequence[str] = LISTS) -> Path:
    """Write OUT/dataset (and OUT/shards) from the rows of a manifest; returns the first.

    Files that hold already what they should are left alone; of the others, only those are replaced
    or removed that were written here before.

    Raises:
        FileNotFoundError: a clip of the manifest is missing in OUT/clips; nothing is changed.
        ValueError: an unknown format, or a clip's place lies outside OUT; nothing is changed.
        FileExistsError: a file is in the way.
        ImportError: parquet without pyarrow.
    """
    formats = ExportSettings(tuple(formats)).formats
    output = Output(out, exclusive=False)
    splits: dict[str, list[Row]] = {"train": []}
    for row in final_rows(rows):
        splits.setdefault(row.info["split"], []).append(row)
        inside(f"dataset/{row.info['split']}/{_video(row)}")  # a manifest may be anybody's
        if not (output.folder / inside(row.info["clip"]["file"])).is_file():
            raise FileNotFoundError(f"{row.info['clip']['file']} is not in {out}: prepare it again")
    wanted: set[str] = set()
    for name, chosen in splits.items():
        wanted |= _write_split(chosen, output, name, formats)
        if "webdataset" in formats:
            wanted |= _write_shards(chosen, output, name)
    output.remove(sorted({*output.names("dataset"), *output.names("shards")} - wanted))
    if "parquet" in formats:
        _write_tables(rows, output)
    return output.folder / "dataset"


def _write_split(
    rows: Sequence[Row], output: Output, split: str, formats: Sequence[str]
) -> set[str]:
    """The videos, then the lists together; returns the names of all of them."""
    folder = f"dataset/{split}"
    (output.folder / folder / "videos").mkdir(parents=True, exist_ok=True)
    videos = {f"{folder}/{_video(row)}": row for row in rows}
    for name, row in videos.items():
        _link(output, row.info["clip"], name)
    lists = {f"{folder}/{n}": text for n, text in _lists(rows, formats).items()}
    output.write(lists)
    return videos.keys() | lists.keys()


def _lists(rows: Sequence[Row], formats: Sequence[str]) -> dict[str, str]:
    """The text of every list that these formats consist of, by its name."""
    prompts = _lines(" ".join(row.info["caption"].split()) for row in rows)
    videos = _lines(map(_video, rows))
    said = {f"{name}.txt": _lines(_said(row)[name] for row in rows) for name in _SAID}
    made = {
        "videofolder": {"metadata.jsonl": _lines(map(_json, rows))},
        "cogvideo": {"prompts.txt": prompts, "videos.txt": videos, **said},
        "finetrainers": {"prompt.txt": prompts, "videos.txt": videos, **said},
        "opensora": {"open_sora.csv": _open_sora(rows)},
    }
    return {n: text for name in formats if name in made for n, text in made[name].items()}


def _lines(texts: Iterable[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def _readable(name: str) -> str:
    """A file name as text for other programs: bytes that are not UTF-8 are written out."""
    return name.encode("utf-8", "backslashreplace").decode()


def _video(row: Row) -> str:
    return f"videos/{row.clip_id}.mp4"


_SAID = ("caption_from", "tone_mapped")


def _said(row: Row) -> dict[str, str]:
    """What a clip is not by nature: who wrote its caption, from what its tones were mapped."""
    found = {**row.info["clip"], **row.info}
    return {name: found.get(name, "") for name in _SAID}


def _json(row: Row) -> str:
    return json.dumps(_line(row), ensure_ascii=False)


def _line(row: Row) -> dict[str, Any]:
    """A VideoFolder line: flat, the same keys for every clip, and all that training asks first."""
    clip = row.info["clip"]
    return plain({
        "file_name": _video(row),
        "text": row.info["caption"],
        **_said(row),
        "clip_id": row.clip_id,
        "source": _readable(row.source),
        "start": row.span[0],
        "end": row.span[1],
        **{name: clip[name] for name in ("num_frames", "height", "width", "fps")},
        "weight": row.info.get("weight", 1.0),
        "licence": row.rights.get("licence", ""),
    })  # fmt: skip


OPEN_SORA_COLUMNS = (
    "path", "text", "num_frames", "width", "height", "aspect_ratio", "fps", "resolution", "weight",
    "caption_from", "tone_mapped",
)  # fmt: skip


def _open_sora(rows: Sequence[Row]) -> str:
    import pandas as pd

    lines = [_line(row) for row in rows]
    for line in lines:
        width, height = line["width"], line["height"]
        # Open-Sora's aspect ratio is height over width
        line |= {"aspect_ratio": round(height / width, 6), "resolution": width * height}
        line["path"] = line["file_name"]
    table = pd.DataFrame(lines, columns=list(OPEN_SORA_COLUMNS))
    return table.to_csv(index=False, lineterminator="\n")


def _write_shards(rows: Sequence[Row], output: Output, split: str) -> set[str]:
    names = set()
    for number, start in enumerate(range(0, len(rows), _PER_SHARD)):
        chosen, name = rows[start : start + _PER_SHARD], f"shards/{split}-{number:06d}.tar"
        names.add(name)
        made_of = key_of([(_json(row), row.info["clip"]["sha256"]) for row in chosen])
        if output.is_made_of(name, made_of):
            continue
        with output.replacing(name, made_of) as path, tarfile.open(path, "w") as tar:
            for row in chosen:
                files = {
                    "json": _json(row).encode(),
                    "mp4": (output.folder / row.info["clip"]["file"]).read_bytes(),
                    "txt": row.info["caption"].encode(),
                }
                for suffix, data in files.items():
                    member = tarfile.TarInfo(f"{row.clip_id}.{suffix}")
                    member.size = len(data)  # all else at its default: equal clips, equal tar
                    tar.addfile(member, io.BytesIO(data))
    return names


def _write_tables(rows: Sequence[Row], output: Output) -> None:
    """The manifest with a column for each metric (`metrics.edge_steepness`), and the columns id and
    embedding that near-duplicate tools read."""
    import pandas as pd

    named = (
        replace(row, source=_readable(row.source), reason=_readable(row.reason))
        for row in sort_rows(rows)
    )
    lines = (json.loads(row.to_json()) for row in named)
    parquet = {"engine": "pyarrow", "index": False}  # pandas says so where pyarrow is missing
    with output.replacing("manifest.parquet") as path:
        pd.json_normalize(list(lines), max_level=1).to_parquet(path, **parquet)
    if (vectors := output.folder / "embeddings.npz").exists():
        with np.load(vectors) as saved, output.replacing("embeddings.parquet") as path:
            columns = {"id": saved["ids"].tolist(), "embedding": saved["vectors"].tolist()}
            pd.DataFrame(columns).to_parquet(path, **parquet)


def _link(output: Output, clip: Mapping[str, Any], name: str) -> None:
    """The clip under another name: a link to it where the disk allows one."""
    source, target = output.folder / clip["file"], output.folder / name
    linked = name in output and target.exists() and target.samefile(source)
    if linked or output.is_made_of(name, clip["sha256"]):
        return
    with output.replacing(name, clip["sha256"], clip["sha256"]) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or one that has no links
            shutil.copyfile(source, temporary)
