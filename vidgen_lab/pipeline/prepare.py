"""The whole way: a folder of videos in, a training set and a manifest of every decision out.

    read → scenes → quality → duplicates → balance → export → annotate → split

Expensive work is done by tasks whose results are kept in a journal; everything else is computed
from them anew on every run. So a run that was killed goes on where it stopped, a changed threshold
costs no decoding, and no order of work can change the manifest.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_lab import __version__
from vidgen_lab.journal import Journal, key_of
from vidgen_lab.pipeline.annotate import annotators
from vidgen_lab.pipeline.config import AnnotateSettings, Config
from vidgen_lab.pipeline.deliver.output import Output, check_apart
from vidgen_lab.pipeline.manifest import (
    Row,
    check_funnel,
    funnel,
    kept,
    manifest_text,
    read_manifest,
    reasons,
)
from vidgen_lab.pipeline.read.sources import (
    Source,
    find_videos,
    in_shard,
    read_rights,
    rights_of,
)
from vidgen_lab.pipeline.runner import Execution, Lazy, TaskRunner, plain_reason
from vidgen_lab.pipeline.select.balance import balance_rows
from vidgen_lab.pipeline.select.duplicates import drop_duplicates
from vidgen_lab.pipeline.select.gates import judge
from vidgen_lab.pipeline.select.sameness import Signature
from vidgen_lab.pipeline.select.split import split_rows
from vidgen_lab.pipeline.tasks import load, made_by
from vidgen_lab.pipeline.workers import Result, Task, run_tasks
from vidgen_lab.progress import Progress

MANIFEST = "manifest.jsonl"
_BYTES, _PIXELS = 3e7, 4e9  # of a file, of a clip's frames: work for the time that `limit` gives
Identity = tuple[str, str]


class NothingLeft(RuntimeError):
    """No clip came through; what stood in the output before is still there."""


def prepare(
    source: str | Path,
    out: str | Path,
    config: Config | None = None,
    execution: Execution = Execution(),  # noqa: B008
    score_only: bool = False,
    shard: tuple[int, int] | None = None,
) -> list[Row]:
    """Make a training set of the videos in `source`; returns the rows of OUT/manifest.jsonl.

    OUT/clips has the clips that were kept, OUT/embeddings.npz the ids [N] and vectors [N, D] of all
    that passed the gates, OUT/work the journal of finished work. Running it again does only what is
    missing. Bad videos are rows, not exceptions.

    Args:
        source: folder that is searched for videos, with all below it.
        out: new, empty or of an earlier run, and apart from `source`: only what was written here,
            by the record OUT/written.jsonl, is ever replaced or removed.
        config: None: the defaults.
        execution: on how many processes, and whether errors are tried again.
        score_only: stop after the quality gates, to look before dropping, with OUT/scored.jsonl.
        shard: (i, n) scores one part of the files, on a cluster, and returns a row a file; the run
            without it, afterwards, finds all scores done and finishes.

    Raises:
        NothingLeft: a stage lost all clips to errors, or an earlier data set would end empty; the
            manifest is left as it was. Before anything is done: a trained annotator is not here.
        ValueError: no video, no such shard, a broken rights.csv, or `out` not apart from `source`.
        FileNotFoundError: there is no folder `source`.
        NotADirectoryError: `source` or `out` is a file.
        FileExistsError: `out` holds files that were not written here.
    """
    source, out, config = Path(source), Path(out), config or Config()
    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise ValueError(f"a shard is i/n with 0 <= i < n, not {shard[0]}/{shard[1]}")
    check_apart(source, out)
    found, rights = find_videos(source), read_rights(source)
    output = Output(out)
    if shard is not None:
        found = [s for s in found if in_shard(s, shard)]
    runner = TaskRunner(out / "work", execution, config.limit, shard)
    run = _Run(config, runner, output, {s.name: s.path for s in found})
    if not score_only and shard is None:
        load_annotators(config.annotate, execution)

    read, clips, signature = run.read(found, rights)
    if shard is not None:
        return read
    quality = [judge(row, config.gates.gates()) for row in kept(clips)]
    table = [*read, *clips, *quality]
    if not score_only:
        later, vectors = run.select_and_deliver(kept(quality), signature)
        table += later
    check_funnel(table, "quality" if score_only else "split")
    check_worth(table, out / MANIFEST, score_only)
    if score_only:
        output.write({"scored.jsonl": manifest_text(table)})
        return table
    ids = sorted(vectors)
    with output.replacing("embeddings.npz") as temporary:
        np.savez(temporary, ids=np.array(ids), vectors=np.float32([vectors[i] for i in ids]))
    output.write({MANIFEST: manifest_text(table)})
    wanted = {_clip_name(row) for row in table if row.stage == "export"}
    output.remove(name for name in output.names("clips") if name not in wanted)
    # What a killed run left half-written, under names that `files` hands out.
    for path in (out / "clips").glob(f".{'[0-9a-f]' * 32}.part.mp4"):
        path.unlink()
    return table


def load_annotators(settings: AnnotateSettings, execution: Execution) -> None:
    """Load trained annotators in advance: workers would fetch them side by side, in a clip's time.

    Raises:
        NothingLeft: one of them is not here and cannot be fetched.
    """
    chosen = vars(settings)
    trained = [
        {"role": role, "name": chosen[role], "download": settings.download}
        for role, kinds in annotators.ANNOTATORS.items()
        if isinstance(kinds[chosen[role]], str)
    ]
    for number, result in run_tasks(load, trained, execution.executor, 1, math.inf):
        if "error" in result:
            name = "annotate.{role}={name}".format(**trained[number])
            why = re.sub("^FileNotFoundError: ", "", result["error"])
            why = why.replace("download=True", "annotate.download=true")
            raise NothingLeft(f"{name} cannot be had, and nothing was done: {why}")


def check_worth(rows: Sequence[Row], manifest: Path, score_only: bool = False) -> None:
    """Refuse a run that is a mistake: it must not replace the `manifest` of the run before it.

    Raises:
        NothingLeft: a stage lost all clips to errors, or none is left where the manifest has some.
    """
    for stage, count in funnel(rows).items():
        if count["error"] == count["in"]:
            reason = next(r.reason for r in rows if r.stage == stage)
            raise NothingLeft(
                f"all {count['in']} ended in an error at the stage {stage}; the first: {reason}"
                + (f". {manifest} was not replaced" if manifest.exists() else "")
            )
    if score_only or any(r.stage == "split" for r in rows) or not manifest.exists():
        return
    if any(row.stage == "split" for row in read_manifest(manifest)):
        why = ", ".join(f"{number} {reason}" for reason, number in reasons(rows).items())
        raise NothingLeft(
            f"no clip passes ({why}), but {manifest} has some: it was left as it is. Change the "
            "settings back, or choose another folder"
        )


@dataclass(frozen=True)
class _Run:
    """The stages of one run, with the `paths` of the sources by their names."""

    config: Config
    runner: TaskRunner
    output: Output
    paths: Mapping[str, Path]

    def read(
        self, found: Sequence[Source], rights: Mapping[str, Mapping[str, str]]
    ) -> tuple[list[Row], list[Row], Callable[[Identity], Signature]]:
        """One row a file, one row a scene, and what reads a scene's signature from the disk."""
        how = {"scenes": asdict(self.config.scenes), "score": asdict(self.config.score)}
        read, hashed, todo = [], [], []
        used = {"vidgen_lab": __version__, **dict(sorted(made_by("score", {}).items()))}
        versions = ", ".join(f"{name} {version}" for name, version in used.items())
        for source in Progress(found, "hash", "file", disable=not self.runner.execution.show):
            task = {"path": str(source.path), **how}
            row = Row(
                source.name, "", "read", "kept", versions=versions,
                rights=rights_of(source.name, rights),
                info={"wrong_suffix": True} if source.wrong_suffix else {},
            )  # fmt: skip
            try:
                sha = self.runner.sha256(source.path)
                task["limit"] = self.config.limit * (1 + source.path.stat().st_size / _BYTES)
            except OSError as error:
                reason = f"the file cannot be read: {error.strerror or error}"
                read.append(row.failed("read", plain_reason(reason, task)))
            else:
                hashed.append(replace(row, clip_id=sha[:16], sha256=sha))
                todo.append(task)
        results = self.runner.run("score", todo, [row.sha256 for row in hashed])
        scored = _after("read", hashed, results, lambda row, value: {"facts": value["facts"]})
        clips, places = [], {}
        for number, row in enumerate(scored):
            found = _scenes(row, results[number]["value"]) if row.status == "kept" else []
            places |= {clip.identity: (number, scene) for scene, clip in enumerate(found)}
            clips += found

        @lru_cache(maxsize=512)
        def signature(identity: Identity) -> Signature:
            number, scene = places[identity]
            return Signature.of(results[number]["value"]["clips"][scene])

        return read + scored, clips, signature

    def select_and_deliver(
        self, good: list[Row], signature: Callable[[Identity], Signature]
    ) -> tuple[list[Row], dict[str, list[float]]]:
        """The rows of the later stages, and by id the vectors of all that passed the gates."""
        config, (vectors, failed) = self.config, self.embed(good)

        def matrix(rows: list[Row]) -> np.ndarray:
            return np.array([vectors[row.identity] for row in rows])

        seen = [row for row in good if row.identity in vectors]
        signatures = Lazy(len(seen), lambda n: signature(seen[n].identity))
        unique = self.unique(seen, signatures, matrix(seen)) + failed
        balanced = []
        if single := kept(unique):
            balanced = balance_rows(single, matrix(single), config.balance, config.seed)
        exported = self.export(kept(balanced))
        annotated = self.annotate(kept(exported))
        split = split_rows(kept(annotated), unique, config.split, config.seed)
        later = [*unique, *balanced, *exported, *annotated, *split]
        return later, {row.clip_id: vectors[row.identity] for row in seen}

    def embed(self, rows: Sequence[Row]) -> tuple[dict[Identity, list[float]], list[Row]]:
        """Vectors by identity, and the rows that could not be embedded as errors."""
        how = self.config.annotate
        who = {"embedder": how.embedder, "download": how.download}
        todo = [self.clip_task(row) | who for row in rows]
        results = self.runner.run("embed", todo, [row.clip_id for row in rows])
        done = list(zip(rows, results, strict=True))
        vectors = {row.identity: found["value"] for row, found in done if "value" in found}
        failed = [row.failed("duplicates", r["error"]) for row, r in done if "error" in r]
        return vectors, failed

    def unique(
        self, rows: list[Row], signatures: Sequence[Signature], vectors: np.ndarray
    ) -> list[Row]:
        """Drop duplicates. Verdicts on pairs are kept: a new clip costs its own pairs only."""
        settings = self.config.duplicates
        made = made_by("duplicates", {}) | made_by("score", {})
        under = (made, asdict(settings), asdict(self.config.score))
        journal, verdicts, parts = Journal(self.runner.folder / "duplicates"), {}, 0
        while part := journal.get(key := key_of(under, parts)):
            verdicts |= part
            parts += 1
        known = set(verdicts)
        unique = drop_duplicates(rows, signatures, settings, vectors, verdicts)
        if new := {pair: verdict for pair, verdict in verdicts.items() if pair not in known}:
            journal.add(key, new)
        return unique

    def export(self, rows: Sequence[Row]) -> list[Row]:
        """Cut the clips out of their files; a file that is not what was written is made anew."""
        media, folder = asdict(self.config.media), self.output.folder
        todo = [
            self.clip_task(row) | {"media": media, "out": str(folder / _clip_name(row))}
            for row in rows
        ]

        def intact(task: Task, value: Any) -> bool:
            written = Path(task["out"])
            return written.exists() and self.runner.sha256(written) == value["sha256"]

        def claim(tasks: Sequence[Task]) -> None:
            self.output.claim(f"clips/{Path(task['out']).name}" for task in tasks)

        def known(row: Row, written: dict[str, Any]) -> dict[str, Any]:
            self.output.wrote({_clip_name(row): written["sha256"]})
            tones = {"tone_mapped": row.info["hdr"]} if "hdr" in row.info else {}
            return {"clip": {"file": _clip_name(row), **written, **tones}}

        results = self.runner.run("export", todo, [row.clip_id for row in rows], intact, claim)
        return _after("export", rows, results, known)

    def annotate(self, rows: Sequence[Row]) -> list[Row]:
        who = asdict(self.config.annotate)
        del who["embedder"]
        clips = [row.info["clip"] for row in rows]
        todo = [{"path": str(self.output.folder / clip["file"]), **who} for clip in clips]
        results = self.runner.run("annotate", todo, [clip["sha256"] for clip in clips])
        return _after("annotate", rows, results, lambda row, found: found)

    def clip_task(self, row: Row) -> Task:
        """What work on a clip of a source needs. It may take the longer, the longer and larger its
        video is up to the clip's end, since some files can only be read from their beginning."""
        pixels = row.frames[1] * row.metrics["width"] * row.metrics["height"]
        return {
            "path": str(self.paths[row.source]),
            "frames": list(row.frames),
            "crop": row.info.get("crop"),
            "limit": self.config.limit * (1 + pixels / _PIXELS),
        }


def _after(
    stage: str, rows: Sequence[Row], results: Sequence[Result], known: Callable[[Row, Any], dict]
) -> list[Row]:
    """The rows after a stage of tasks: lost to an error, or kept with what is `known` of each."""
    return [
        row.failed(stage, result["error"])
        if "error" in result
        else row.to(stage, **known(row, result["value"]))
        for row, result in zip(rows, results, strict=True)
    ]


def _scenes(row: Row, scored: dict[str, Any]) -> list[Row]:
    """A row for every scene of a file; one that is damaged is an error."""
    facts, rows = scored["facts"], []
    bits = {"bits_per_second": facts["bits_per_second"]}
    for clip in scored["clips"]:
        first, end = clip["frames"]
        odd = {"crop": clip["crop"], "hdr": facts["hdr"]}
        scene = replace(
            row, clip_id=f"{row.clip_id}-{first:06d}-{end:06d}", stage="scenes",
            span=clip["span"], frames=clip["frames"], metrics={**clip["metrics"], **bits},
            info={name: value for name, value in odd.items() if value},
        )  # fmt: skip
        rows.append(scene.failed("scenes", clip["damage"]) if clip["damage"] else scene)
    return rows


def _clip_name(row: Row) -> str:
    return f"clips/{row.clip_id}.mp4"
