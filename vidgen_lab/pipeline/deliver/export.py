"""The kept clips as the files that trainers read.

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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_lab.files import file_sha256, plain, replacing
from vidgen_lab.pipeline.deliver.output import Output
from vidgen_lab.pipeline.manifest import Row, readable, write_table

_PER_SHARD = 500  # clips in one tar


def final_rows(rows: Iterable[Row]) -> list[Row]:
    """The clips that came through every stage, in the order of their ids."""
    done = (row for row in rows if row.stage == "split" and row.status == "kept")
    return sorted(done, key=lambda row: row.clip_id)


def write_exports(rows: Iterable[Row], out: str | Path) -> Path:
    """Write OUT/dataset and OUT/shards from the rows of a manifest; returns the first.

    Files that hold already what they should are left alone; of the others, only those are replaced
    or removed that were written here before. Raises FileNotFoundError when a clip of the manifest
    is missing in OUT/clips, before anything is changed, and FileExistsError for a file in the way.
    """
    output = Output(out, exclusive=False)
    splits: dict[str, list[Row]] = {"train": []}
    for row in final_rows(rows):
        splits.setdefault(row.info["split"], []).append(row)
        if not (output.folder / row.info["clip"]["file"]).is_file():
            raise FileNotFoundError(f"{row.info['clip']['file']} is not in {out}: prepare it again")
    wanted: set[str] = set()
    for name, chosen in splits.items():
        wanted |= _write_split(chosen, output, name)
        wanted |= _write_shards(chosen, output, name)
    stale = {*output.names("dataset"), *output.names("shards")} - wanted
    output.remove(sorted(stale))
    return output.folder / "dataset"


def _write_split(rows: Sequence[Row], output: Output, split: str) -> set[str]:
    """The videos, then the lists together; returns the names of all of them."""
    folder = f"dataset/{split}"
    videos = {f"{folder}/videos/{row.clip_id}.mp4": row for row in rows}
    (output.folder / folder / "videos").mkdir(parents=True, exist_ok=True)
    for name, row in videos.items():
        _link(output, row.info["clip"], name)
    prompts = [" ".join(row.info["caption"].split()) for row in rows]
    paths = [f"videos/{row.clip_id}.mp4" for row in rows]
    lines = {"prompts.txt": prompts, "prompt.txt": prompts, "videos.txt": paths}
    lines["metadata.jsonl"] = [json.dumps(_metadata(r), ensure_ascii=False) for r in rows]
    lists = {f"{folder}/{n}": "".join(f"{line}\n" for line in ls) for n, ls in lines.items()}
    lists[f"{folder}/open_sora.csv"] = _open_sora(rows)
    output.write(lists)
    return videos.keys() | lists.keys()


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


def _open_sora(rows: Sequence[Row]) -> str:
    file = io.StringIO(newline="")
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
    return file.getvalue()


def _write_shards(rows: Sequence[Row], output: Output, split: str) -> set[str]:
    names = set()
    for number, start in enumerate(range(0, len(rows), _PER_SHARD)):
        name = f"shards/{split}-{number:06d}.tar"
        with output.replacing(name) as temporary, tarfile.open(temporary, "w") as tar:
            for row in rows[start : start + _PER_SHARD]:
                files = {
                    "json": json.dumps(_metadata(row), ensure_ascii=False).encode(),
                    "mp4": (output.folder / row.info["clip"]["file"]).read_bytes(),
                    "txt": row.info["caption"].encode(),
                }
                for suffix, data in files.items():
                    member = tarfile.TarInfo(f"{row.clip_id}.{suffix}")
                    member.size = len(data)  # all else at its default: equal clips, equal tar
                    tar.addfile(member, io.BytesIO(data))
        names.add(name)
    return names


def write_embeddings(out: str | Path) -> Path:
    """OUT/embeddings.parquet with the columns id and embedding from OUT/embeddings.npz.

    The layout that near-duplicate tools read. Raises ImportError when pyarrow is missing.
    """
    import pandas as pd

    output = Output(out, exclusive=False)
    with np.load(output.folder / "embeddings.npz") as saved:
        ids, vectors = saved["ids"].tolist(), saved["vectors"].tolist()
    with output.replacing("embeddings.parquet") as path:
        write_table(pd.DataFrame({"id": ids, "embedding": vectors}), path)
    return output.folder / "embeddings.parquet"


def _link(output: Output, clip: Mapping[str, Any], name: str) -> None:
    """The clip under another name: a link to it where the disk allows one."""
    source, target = output.folder / clip["file"], output.folder / name
    if name in output and target.exists() and target.samefile(source):
        return
    output.claim([name])
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or one that has no links
            shutil.copyfile(source, temporary)
    output.wrote({name: clip.get("sha256") or file_sha256(target)})
