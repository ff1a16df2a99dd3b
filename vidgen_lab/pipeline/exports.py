"""The kept clips as the files that trainers read; built beside the old ones and swapped in.

OUT/dataset/SPLIT/videos/*.mp4      hard links to OUT/clips where the disk allows it
                 /prompts.txt + videos.txt     CogVideo
                 /prompt.txt  + videos.txt     finetrainers
                 /metadata.jsonl               Hugging Face VideoFolder
                 /open_sora.csv                Open-Sora
                 /shards/SPLIT-000000.tar      WebDataset
OUT/embeddings.parquet              id, embedding
"""

import csv
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_lab.files import plain
from vidgen_lab.pipeline.rows import Row, readable, write_table

_PER_SHARD = 500  # clips in one tar


def final_rows(rows: Iterable[Row]) -> list[Row]:
    """The clips that came through every stage, in the order of their ids."""
    done = (row for row in rows if row.stage == "split" and row.status == "kept")
    return sorted(done, key=lambda row: row.clip_id)


def write_exports(rows: Iterable[Row], out: str | Path) -> Path:
    """Write OUT/dataset and OUT/shards anew from the rows of a manifest; returns the first.

    Raises FileNotFoundError when a clip of the manifest is missing in OUT/clips.
    """
    out = Path(out)
    dataset, shards = out / ".dataset.part", out / ".shards.part"
    for leftover in (dataset, shards):
        shutil.rmtree(leftover, ignore_errors=True)
    shards.mkdir(parents=True)
    splits: dict[str, list[Row]] = {"train": []}
    for row in final_rows(rows):
        splits.setdefault(row.info["split"], []).append(row)
    for name, chosen in splits.items():
        _write_split(chosen, out, dataset / name)
        _write_shards(chosen, out, shards, name)
    _swap(shards, out / "shards")
    return _swap(dataset, out / "dataset")


def _swap(new: Path, place: Path) -> Path:
    """Put a finished folder in the place of the old one."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)
    return place


def _write_split(rows: Sequence[Row], out: Path, folder: Path) -> None:
    (folder / "videos").mkdir(parents=True)
    for row in rows:
        _link(out / row.info["clip"]["file"], folder / "videos" / f"{row.clip_id}.mp4")
    prompts = [" ".join(row.info["caption"].split()) for row in rows]
    videos = [f"videos/{row.clip_id}.mp4" for row in rows]
    for name, lines in (("prompts", prompts), ("prompt", prompts), ("videos", videos)):
        (folder / f"{name}.txt").write_text("".join(f"{x}\n" for x in lines), encoding="utf-8")
    metadata = "".join(json.dumps(_metadata(r), ensure_ascii=False) + "\n" for r in rows)
    (folder / "metadata.jsonl").write_text(metadata, encoding="utf-8")
    _write_open_sora(rows, folder / "open_sora.csv")


def _metadata(row: Row) -> dict[str, Any]:
    """A VideoFolder line: flat, and the same keys for every clip."""
    return plain({
        "file_name": f"videos/{row.clip_id}.mp4",
        "text": row.info["caption"],
        "clip_id": row.clip_id,
        "source": readable(row.source),
        "start": row.span[0],
        "end": row.span[1],
        "weight": row.info.get("weight", 1.0),
        "licence": row.rights.get("licence", ""),
    })  # fmt: skip


OPEN_SORA_COLUMNS = (
    "path", "text", "num_frames", "width", "height", "aspect_ratio", "fps", "resolution",
)  # fmt: skip


def _write_open_sora(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, OPEN_SORA_COLUMNS, lineterminator="\n")
        table.writeheader()
        for row in rows:
            clip = row.info["clip"]
            width, height = clip["width"], clip["height"]
            table.writerow({
                "path": f"videos/{row.clip_id}.mp4",
                "text": row.info["caption"],
                "num_frames": clip["num_frames"],
                "width": width,
                "height": height,
                "aspect_ratio": round(height / width, 6),  # Open-Sora's is height over width
                "fps": clip["fps"],
                "resolution": width * height,
            })  # fmt: skip


def _write_shards(rows: Sequence[Row], out: Path, folder: Path, split: str) -> None:
    for number, start in enumerate(range(0, len(rows), _PER_SHARD)):
        with tarfile.open(folder / f"{split}-{number:06d}.tar", "w") as tar:
            for row in rows[start : start + _PER_SHARD]:
                files = {
                    "json": json.dumps(_metadata(row), ensure_ascii=False).encode(),
                    "mp4": (out / row.info["clip"]["file"]).read_bytes(),
                    "txt": row.info["caption"].encode(),
                }
                for suffix, data in files.items():
                    member = tarfile.TarInfo(f"{row.clip_id}.{suffix}")
                    member.size = len(data)  # all else at its default: equal clips, equal tar
                    tar.addfile(member, io.BytesIO(data))


def write_embeddings(out: str | Path) -> Path:
    """OUT/embeddings.parquet with the columns id and embedding from OUT/embeddings.npz.

    The layout that near-duplicate tools read. Raises ImportError when pyarrow is missing.
    """
    import pandas as pd

    out = Path(out)
    with np.load(out / "embeddings.npz") as saved:
        ids, vectors = saved["ids"].tolist(), saved["vectors"].tolist()
    return write_table(pd.DataFrame({"id": ids, "embedding": vectors}), out / "embeddings.parquet")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one that has no links
        shutil.copyfile(source, target)
