"""The whole way: a folder of videos in, a training set and a manifest of every decision out.

    read → scenes → quality → duplicates → balance → export → annotate → split

Expensive work is done by tasks whose results are kept in a journal; everything else is computed
from them anew on every run. So a run that was killed goes on where it stopped, a changed threshold
costs no decoding, and no order of work can change the manifest.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_lab.files import file_sha256
from vidgen_lab.journal import Journal, key_of
from vidgen_lab.pipeline import tasks
from vidgen_lab.pipeline.config import Config
from vidgen_lab.pipeline.deliver.output import Output, check_apart
from vidgen_lab.pipeline.manifest import (
    Row,
    check_fan_out,
    check_funnel,
    check_stage,
    funnel,
    kept,
    manifest_text,
    read_manifest,
    reasons,
)
from vidgen_lab.pipeline.read.sources import Source, find_videos, in_shard, read_rights
from vidgen_lab.pipeline.select.balance import balance_rows
from vidgen_lab.pipeline.select.duplicates import Signature, drop_duplicates
from vidgen_lab.pipeline.select.gates import judge
from vidgen_lab.pipeline.select.scoring import versions
from vidgen_lab.pipeline.select.split import split_rows
from vidgen_lab.pipeline.workers import EXECUTORS, KILLED, Task, run_tasks

MANIFEST = "manifest.jsonl"
Progress = Callable[[str, int, int], None]  # stage, done, of


@dataclass(frozen=True)
class Labour:
    """How work gets done. progress: called with (stage, done, of) as results arrive."""

    executor: str = "process"
    workers: int | None = None
    retry_errors: bool = False
    progress: Progress = lambda stage, done, of: None

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            known = ", ".join(EXECUTORS)
            raise ValueError(f"unknown executor {self.executor!r}; one of {known}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, not {self.workers}")


class NothingLeft(RuntimeError):
    """No clip came through; what stood in the output before is still there."""


def prepare(
    source: str | Path,
    out: str | Path,
    config: Config | None = None,
    labour: Labour = Labour(),
    score_only: bool = False,
    shard: tuple[int, int] | None = None,
) -> list[Row]:
    """Make a training set of the videos in `source`; returns the rows of OUT/manifest.jsonl.

    OUT/clips has the clips that were kept, OUT/work the journal of finished work. Running it again
    does only what is missing. score_only: stop after the quality gates, to look before dropping;
    the rows go to OUT/scored.jsonl. shard: (i, n) scores one part of the files, on a cluster; the
    run without it, afterwards, finds all scores done and finishes.

    OUT must be new, empty or of an earlier run, and apart from `source`: only what was written
    here, by the record OUT/written.jsonl, is ever replaced or removed. Bad videos are rows;
    NothingLeft is raised, and OUT left as it was, when all of them are, or when an earlier data
    set would end empty.
    Raises what `find_videos` raises, ValueError and FileExistsError.
    """
    source, out, config = Path(source), Path(out), config or Config()
    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise ValueError(f"a shard is i/n with 0 <= i < n, not {shard[0]}/{shard[1]}")
    check_apart(source, out)
    found, rights = find_videos(source), read_rights(source)
    output = Output(out)
    if shard is not None:
        found = [s for s in found if in_shard(s, shard)]
    work = _Work(out / "work", config, labour, shard)

    read, scores = _read(found, rights, work)
    if shard is not None:
        return read
    clips, scored = _scenes(kept(read), scores)
    quality = [judge(row, config.gates.gates()) for row in kept(clips)]
    check_stage(kept(clips), quality)
    table, vectors = [*read, *clips, *quality], {}
    if not score_only:
        files = {s.name: s.path for s in found}
        later, vectors = _select_and_deliver(kept(quality), scored, files, work, output)
        table += later
    check_funnel(table)
    check_worth(table, out / MANIFEST, score_only)
    if not score_only:
        _save_vectors(vectors, output)
    output.write({"scored.jsonl" if score_only else MANIFEST: manifest_text(table)})
    if not score_only:
        _sweep(output, {f"clips/{row.clip_id}.mp4" for row in table if row.stage == "export"})
    return table


def check_worth(rows: Sequence[Row], manifest: Path, score_only: bool = False) -> None:
    """Raises NothingLeft when a stage lost every clip to errors, or when no clip is left and the
    manifest before this one had some: such a run is a mistake, and must not replace anything."""
    for stage, count in funnel(rows).items():
        if count["error"] == count["in"]:
            reason = next(r.reason for r in rows if r.stage == stage)
            raise NothingLeft(
                f"all {count['in']} ended in an error at the stage {stage}; the first: {reason}. "
                f"Nothing in {manifest.parent} was replaced"
            )
    if score_only or any(r.stage == "split" for r in rows) or not manifest.exists():
        return
    if any(row.stage == "split" for row in read_manifest(manifest)):
        why = ", ".join(f"{number} {reason}" for reason, number in reasons(rows).items())
        raise NothingLeft(
            f"no clip passes ({why}), but {manifest} has some: it was left as it is. Change the "
            "settings back, or choose another folder"
        )


def _select_and_deliver(
    good: list[Row],
    scored: dict[tuple, dict],
    paths: dict[str, Path],
    work: "_Work",
    output: Output,
) -> tuple[list[Row], dict[str, list[float]]]:
    """The rows of the later stages, and the vectors of all clips that passed the gates by id."""
    config = work.config
    vectors, blind = _embed(good, paths, work)
    seen = [row for row in good if row.identity in vectors]
    matrix = np.array([vectors[row.identity] for row in seen])
    signatures = [Signature.of(scored[row.identity]) for row in seen]
    unique = [*drop_duplicates(seen, signatures, config.duplicates, matrix), *blind]
    check_stage(good, unique)

    single = kept(unique)
    balanced = []
    if single:
        matrix = np.array([vectors[row.identity] for row in single])
        balanced, _ = balance_rows(single, matrix, config.balance, config.seed)
    check_stage(single, balanced)

    exported = _export(kept(balanced), paths, work, output)
    check_stage(kept(balanced), exported)
    annotated = _annotate(kept(exported), work, output.folder)
    check_stage(kept(exported), annotated)
    split = split_rows(kept(annotated), unique, config.split, config.seed)
    check_stage(kept(annotated), split)
    later = [*unique, *balanced, *exported, *annotated, *split]
    return later, {row.clip_id: vectors[row.identity] for row in seen}


def _read(
    found: Sequence[Source], rights: dict[str, dict[str, str]], work: "_Work"
) -> tuple[list[Row], dict[str, dict]]:
    """One row a file, and the scores by file name."""
    hashes = work.do("hash", [{"path": str(s.path)} for s in found])
    config, used = work.config, versions()
    todo, keys = [], []
    for source, outcome in zip(found, hashes, strict=True):
        if "value" in outcome:
            keys.append(outcome["value"])
            todo.append({
                "path": str(source.path),
                "scenes": asdict(config.scenes),
                "score": asdict(config.score),
            })  # fmt: skip
    results = iter(work.do("score", todo, keys))
    rows, scores = [], {}
    for source, hashed in zip(found, hashes, strict=True):
        sha = hashed.get("value", "")
        row = Row(
            source.name, sha[:16], "read", "kept", sha256=sha, versions=used,
            rights=rights.get(source.name, rights.get("*", {})),
            info={"wrong_suffix": True} if source.wrong_suffix else {},
        )  # fmt: skip
        outcome = next(results) if sha else hashed
        if "error" in outcome:
            rows.append(row.failed("read", outcome["error"]))
        else:
            facts = outcome["value"]["facts"]
            scores[source.name] = outcome["value"]
            rows.append(replace(row, info={**row.info, "facts": facts}))
    return rows, scores


def _scenes(read: Sequence[Row], scores: dict[str, dict]) -> tuple[list[Row], dict[tuple, dict]]:
    """One row a scene, and what was measured of it by the row's identity."""
    rows, scored = [], {}
    for row in read:
        facts = scores[row.source]["facts"]
        bits = {"bits_per_second": facts["bits_per_second"]}
        for clip in scores[row.source]["clips"]:
            first, end = clip["frames"]
            child = replace(
                row, clip_id=f"{row.clip_id}-{first:06d}-{end:06d}", stage="scenes",
                span=clip["span"], frames=clip["frames"], metrics={**clip["metrics"], **bits},
                info={},
            )  # fmt: skip
            rows.append(child.failed("scenes", clip["damage"]) if clip["damage"] else child)
            scored[child.identity] = clip
    check_fan_out(read, rows)
    return rows, scored


def _embed(
    rows: Sequence[Row], paths: dict[str, Path], work: "_Work"
) -> tuple[dict[tuple, list[float]], list[Row]]:
    """Vectors by identity, and the rows that could not be embedded as errors."""
    names = work.config.annotate
    who = {"embedder": names.embedder, "download": names.download}
    todo = [{"path": str(paths[row.source]), "frames": list(row.frames), **who} for row in rows]
    vectors, failed = {}, []
    for row, outcome in zip(rows, work.do("embed", todo, [r.clip_id for r in rows]), strict=True):
        if "error" in outcome:
            failed.append(row.failed("duplicates", outcome["error"]))
        else:
            vectors[row.identity] = outcome["value"]
    return vectors, failed


def _save_vectors(vectors: dict[str, list[float]], output: Output) -> None:
    """OUT/embeddings.npz: ids [N] and vectors [N, D] of all clips that passed the gates."""
    ids = sorted(vectors)
    with output.replacing("embeddings.npz") as temporary:
        np.savez(temporary, ids=np.array(ids), vectors=np.float32([vectors[i] for i in ids]))


def _export(
    rows: Sequence[Row], paths: dict[str, Path], work: "_Work", output: Output
) -> list[Row]:
    """Cut the clips out of their files; a file that is not what was written is made anew."""
    media = asdict(work.config.media)
    names = [f"clips/{row.clip_id}.mp4" for row in rows]
    todo = [
        {
            "path": str(paths[row.source]), "frames": list(row.frames), "media": media,
            "out": str(output.folder / name), "limit": work.config.limit,
        }
        for row, name in zip(rows, names, strict=True)
    ]  # fmt: skip

    def intact(task: Task, value: Any) -> bool:
        written = Path(task["out"])
        return written.exists() and file_sha256(written) == value["sha256"]

    def claim(tasks: Sequence[Task]) -> None:
        output.claim(f"clips/{Path(task['out']).name}" for task in tasks)

    done = work.do("export", todo, [row.clip_id for row in rows], intact, claim)
    out = []
    for row, name, outcome in zip(rows, names, done, strict=True):
        if "error" in outcome:
            out.append(row.failed("export", outcome["error"]))
        else:
            output.wrote({name: outcome["value"]["sha256"]})
            out.append(row.to("export", clip={"file": name, **outcome["value"]}))
    return out


def _sweep(output: Output, wanted: set[str]) -> None:
    """Remove clips that are no longer kept, and what a killed run left half-written."""
    output.remove(name for name in output.names("clips") if name not in wanted)
    for path in (output.folder / "clips").glob(".*.part.mp4"):
        if re.fullmatch(r"\.[0-9a-f]{32}\.part\.mp4", path.name):  # a name `files` hands out
            path.unlink()


def _annotate(rows: Sequence[Row], work: "_Work", out: Path) -> list[Row]:
    names = asdict(work.config.annotate)
    who = {name: names[name] for name in ("detector", "actor", "captioner", "download")}
    todo = [{"path": str(out / row.info["clip"]["file"]), **who} for row in rows]
    done = work.do("annotate", todo, [row.info["clip"]["sha256"] for row in rows])
    return [
        row.failed("annotate", outcome["error"])
        if "error" in outcome
        else row.to("annotate", **outcome["value"])
        for row, outcome in zip(rows, done, strict=True)
    ]


class _Work:
    """Does tasks once: results come from the journal where they are known."""

    def __init__(
        self, folder: Path, config: Config, labour: Labour, shard: tuple[int, int] | None
    ) -> None:
        self.config, self.labour = config, labour
        name = f"{shard[0]}-of-{shard[1]}" if shard else "0-of-1"
        self._open = lambda stage: Journal(folder / stage, name)

    def do(
        self,
        stage: str,
        todo: Sequence[Task],
        contents: Sequence[str] | None = None,
        intact: Callable[[Task, Any], bool] = lambda task, value: True,
        before: Callable[[Sequence[Task]], None] = lambda tasks: None,
    ) -> list[dict[str, Any]]:
        """For each task {"value": ...} or {"error": reason}, in their order.

        contents: what the task's input is (a hash). The key of a result is made of it, the task
        without its paths, and the code; equal work is done once. None: nothing is remembered.
        intact: whether a remembered value still holds. before: called with the tasks to be done.
        """
        function = tasks.hash_source if stage == "hash" else getattr(tasks, stage)
        journal = self._open(stage) if contents is not None else None
        keys = [str(n) for n in range(len(todo))]
        if contents is not None:
            keys = [_key(stage, c, task) for c, task in zip(contents, todo, strict=True)]
        known: dict[str, dict[str, Any]] = {}
        for key, task in zip(keys, todo, strict=True):
            if journal and key in journal and self._holds(journal[key], task, intact):
                known[key] = journal[key]
        missing = {k: t for k, t in zip(keys, todo, strict=True) if k not in known}
        order, total = list(missing), len(set(keys))
        self.labour.progress(stage, len(known), total)
        before(list(missing.values()))
        # Reading bytes is not worth a process.
        executor = "serial" if stage == "hash" else self.labour.executor
        work = run_tasks(
            function, list(missing.values()), executor, self.labour.workers, self.config.limit
        )
        for number, outcome in work:
            key = order[number]
            known[key] = {"value": outcome.value}
            if outcome.error:
                reason = _plain_reason(outcome.error, missing[key])
                known[key] = {"error": reason, "under": self._under(missing[key])}
            if journal and not outcome.error.startswith(KILLED):
                journal.add(key, known[key])
            self.labour.progress(stage, len(known), total)
        return [known[key] for key in keys]

    def _holds(self, result: dict[str, Any], task: Task, intact: Callable) -> bool:
        if "error" in result:
            same = result.get("under") == self._under(task)
            return same and not self.labour.retry_errors
        return intact(task, result["value"])

    def _under(self, task: Task) -> list:
        """What changes no result, yet may turn an error into one."""
        return [self.config.limit, task.get("download", False)]


def _key(stage: str, content: str, task: Task) -> str:
    how = ("path", "out", "limit", "download")  # changes nothing about the result
    settings = {k: v for k, v in task.items() if k not in how}
    return key_of(stage, tasks.VERSIONS[stage], versions(), content, settings)


def _plain_reason(error: str, task: Task) -> str:
    """The reason without names of this machine's folders, so that it is the same everywhere."""
    text = " ".join(error.split())
    for name in ("out", "path"):
        if name in task:
            text = text.replace(task[name], "the file")
    return text.removeprefix("VideoError: ")
