"""What a reader builds in chapter 2, each piece by itself."""

import json
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.pipeline.samples import blurred, film, moving, picture, save
from tests.workbook.test_built import built
from vidgen_lab.files import file_sha256
from vidgen_lab.metrics.flow import flow_magnitude
from vidgen_lab.pipeline.annotate.annotators import MotionDetector
from vidgen_lab.pipeline.deliver.cut import MediaSettings, cut_clip
from vidgen_lab.pipeline.manifest import Row, read_manifest
from vidgen_lab.pipeline.prepare import Execution, prepare
from vidgen_lab.pipeline.read.probing import probe_file
from vidgen_lab.pipeline.select.gates import Gate, GateSettings
from vidgen_lab.toyworld.raw import Planted
from vidgen_lab.video.clip import Clip, evenly_spaced
from vidgen_lab.video.ffmpeg import local, run_ffmpeg
from vidgen_lab.video.reader import VideoReader, read_clip
from vidgen_lab.workbook.show import figure, photo

BOX = {"kind": "box", "frame": 3, "box": [1, 2, 30, 20], "label": "cat"}
SPAN = {"kind": "span", "start": 0, "end": 10, "label": "running"}


def test_frames_are_counted_and_not_believed(tmp_path):
    path = save(film((1, 2), 12), tmp_path / "x.mp4")
    facts = built(2, "count-frames").analyze_raw_video(path)
    assert (facts["width"], facts["height"], facts["frames"]) == (96, 64, 24)
    assert facts["raw bytes"] == 96 * 64 * 24 * 3 > facts["bytes"]


def test_masks_survive_their_run_lengths():
    pieces, rng = built(2, "masks"), np.random.default_rng(0)
    for mask in (rng.random((7, 5)) > 0.6, np.zeros((3, 4), bool), np.ones((3, 4), bool)):
        runs = pieces.encode_mask(mask)
        assert sum(runs) == mask.size and (pieces.decode_mask(runs, mask.shape) == mask).all()


@pytest.mark.parametrize(
    ("annotation", "change", "words"),
    [
        (BOX, {}, ""),
        (SPAN, {}, ""),
        ({**BOX, "kind": "mask"}, {"runs": [0, 48 * 64]}, ""),
        (BOX, {"label": "  "}, "without a label"),
        (BOX, {"frame": 10}, "not in 10 frames"),
        (BOX, {"box": [1, 2, 0, 20]}, "no area"),
        (BOX, {"box": [40, 2, 30, 20]}, "leaves a picture"),
        (SPAN, {"end": 0}, "no span"),
        (SPAN, {"end": 11}, "no span"),
        ({**BOX, "kind": "mask"}, {"runs": [3]}, "add up"),
    ],
)
def test_mistakes_in_annotations_are_named(annotation, change, words):
    fault = built(2, "masks").fault_of({**annotation, **change}, 10, 64, 48)
    assert words in fault and bool(words) == bool(fault)


def test_detections_grow_together_to_spans():
    merge = built(2, "spans").extract_annotated_clips
    hits = [{"frame_id": f, "confidence": s} for f, s in ((10, 0.5), (14, 1), (12, 0.9))]
    hits += [{"frame_id": 60}, {"start": 80, "end": 95, "confidence": 0.7}]
    spans = merge(hits, pad=2, total=96)
    assert spans == [(8, 17, 1.0, pytest.approx(0.8)), (78, 96, 0.7, 0.7)]
    assert merge([]) == []
    assert [s[:2] for s in merge([{"frame_id": 40}, {"frame_id": 42}], pad=4, total=45)] == [
        (36, 45)
    ]
    with pytest.raises(KeyError, match="start"):
        merge([{"action": "run"}])


def test_a_stream_is_complete_in_order_and_ends_with_its_viewer():
    stream, frames = built(2, "threads", time=time).stream_video, np.zeros((16, 2, 2))
    assert [number for number, _ in stream(frames, 2, "wait")] == list(range(16))
    before = threading.active_count()
    for _ in stream(frames, 1, "wait"):
        break
    assert threading.active_count() == before


def test_a_full_buffer_drops_the_oldest_when_told_to():
    viewer = built(2, "threads", time=time).stream_video(np.zeros((50, 1)), 2, "drop")
    first, _ = next(viewer)
    for thread in threading.enumerate():  # the source runs on to its end
        if "(read)" in thread.name:
            thread.join(5)
    rest = [number for number, _ in viewer]
    assert [first, *rest] == sorted({first, *rest})
    assert len(rest) <= 2 and max(first, *rest, 0) == 49  # the newest is there


def test_an_error_of_the_source_reaches_the_viewer():
    def source():
        yield np.zeros(1)
        raise OSError("line cut")

    viewer = built(2, "threads", time=time).stream_video(source(), 4, "wait")
    assert next(viewer)[0] == 0
    with pytest.raises(OSError, match="line cut"):
        next(viewer)


def test_blurred_faces_are_not_found_again_and_the_rest_stays():
    pieces = built(2, "photos", "faces", "blur")
    photo = cv2.resize(pieces.PHOTOS["astronaut"], (320, 320), interpolation=cv2.INTER_AREA)
    for frame in pieces.pan_over(photo, 7.5, 3, 200, 200, top=4).frames:
        faces = pieces.find_faces(frame)
        hidden = pieces.hide(frame, faces)
        assert faces and not pieces.find_faces(hidden)
        assert np.array_equal(hidden[-8:], frame[-8:])


def test_the_usual_motion_hangs_on_the_sampling_and_flow_between_neighbours_does_not():
    """Erratum E15: one and the same pan, looked at in three ways."""
    pieces = built(2, "photos", "usual-motion")
    pan, longer = (pieces.pan_over(pieces.PHOTOS["grass"], 2, n, 220, 132) for n in (49, 97))
    usual = [pieces.sampled_flow(*case) for case in ((pan.frames, 8), (pan.frames, 16))]
    usual.append(pieces.sampled_flow(longer.frames, 8))
    assert max(usual) > 1.5 * min(usual)
    ours = [flow_magnitude(Clip(c.frames[n : n + 2], 8))[0] for c in (pan, longer) for n in (3, 30)]
    assert ours == pytest.approx([100 * 2 * 8 / 220] * 4, rel=0.1)


def test_words_go_to_the_scene_in_which_they_are_spoken():
    by_scene = built(2, "spoken").words_by_scene
    words = [("a", 0, 0.5), ("b", 0.8, 1.1), ("c", 0.95, 1.5), ("d", 5, 6)]
    assert by_scene(words, [(0, 1), (1, 2)]) == ["a b", "c"]
    assert by_scene(words, []) == []


def test_a_logo_stays_while_the_film_changes_under_it():
    pieces, plain = built(2, "logo"), film((1, 2, 3, 4), 4)
    marked = [cv2.putText(f.copy(), "TV", (70, 16), 0, 0.42, (255,) * 3, 1) for f in plain.frames]
    assert pieces.watermark(Clip(np.stack(marked), 8)) > pieces.watermark(plain) + 0.002
    still = Clip(np.repeat(picture(1)[None], 6, axis=0), 8)
    assert pieces.watermark(still) == 0


def test_a_page_is_text_and_a_picture_is_not():
    lettering, page = built(2, "logo").lettering, np.full((110, 200, 3), 245, np.uint8)
    for line in range(5):
        cv2.putText(page, "subscribe now for more", (8, 20 + 20 * line), 0, 0.42, (20,) * 3, 1, 16)
    assert lettering(page) > 0.1 and lettering(picture(2, 200, 110)) < 0.05


def test_lists_and_names_of_ucf101_give_label_film_and_side():
    read = built(2, "c093").read_ucf101
    given = {"train": "A/v_Archery_g08_c01.avi 1\n\n", "test": "A/v_Archery_g01_c01.avi\n"}
    train, test = read(given)
    assert (train["label"], train["film"], train["side"]) == ("Archery", "08", "train")
    assert (test["film"], test["side"]) == ("01", "test")
    with pytest.raises(ValueError, match="no clip of UCF101"):
        read({"train": "Archery/holiday.avi 1\n"})
    with pytest.raises(ValueError, match="a leak"):
        read(given | {"train": "A/v_Archery_g01_c02.avi 1\n"})


def test_rules_of_choice_differ_as_they_should():
    rules, scores = built(2, "rules"), np.zeros(100)
    scores[:20] = np.arange(20)
    quality = np.tile([0.1, 0.9, 0.2, 0.3, 0.1], 20)
    assert rules.liveliest(scores, 4) == [16, 17, 18, 19]
    assert evenly_spaced(100, 4) == [0, 33, 66, 99] and evenly_spaced(3, 9) == [0, 1, 2]
    assert all(f % 5 == 1 for f in rules.best_of_each_piece(quality, 10))
    coverage = rules.coverage
    assert coverage([0], 100) == pytest.approx(0.01) and coverage(list(range(100)), 100) == 1
    assert coverage([16, 17, 18, 19], 100) < 0.3 < 0.6 < coverage([0, 33, 66, 99], 100)


def test_first_come_loses_the_end():
    """Erratum E17."""
    scores = np.random.default_rng(0).random(1000)
    chosen = built(2, "rules").first_come(scores, [300, 900], 100)
    assert len(chosen) == 100 and max(chosen) < 400


GATES = [Gate("blurred", "sharp", 0.2, True), Gate("static", "changing", 0.1, True)]


def row(name: str, **metrics) -> Row:
    return Row(f"{name}.mp4", name, "quality", "kept", metrics=metrics, info={"caption": "old"})


def test_the_closest_decisions_come_first_and_each_clip_once():
    rows = [
        row("sure", sharp=0.6, changing=1.0),
        row("close", sharp=0.21, changing=1.0),
        row("by_other_gate", sharp=0.6, changing=0.15),
        row("unmeasured", sharp=None, changing=0.6),
    ]
    review_queue = built(2, "review", json=json).review_queue
    queue = review_queue(rows, GATES, 9)
    assert [clip.clip_id for _, clip, _ in queue[:2]] == ["close", "by_other_gate"]
    assert [gate.reason for *_, gate in queue[:2]] == ["blurred", "static"]
    assert len(queue) == 4 and len(review_queue(rows, GATES, 1)) == 1


def test_what_is_the_same_everywhere_is_no_doubt():
    """Stills have no change at all: near the line in numbers, and not in doubt."""
    rows = [row(f"still{n}", sharp=0.6, changing=0.0) for n in range(5)]
    rows += [row("soft", sharp=0.18, changing=1.0), row("fine", sharp=0.4, changing=0.9)]
    queue = built(2, "review", json=json).review_queue(rows, GATES, 9)
    assert [clip.clip_id for _, clip, _ in queue[:2]] == ["soft", "fine"]
    assert all(gate.reason == "static" and margin == np.inf for margin, _, gate in queue[2:])


def test_a_clip_that_misses_two_gates_hangs_on_the_one_it_misses_further():
    rows = [row("both", sharp=0.19, changing=0.02), row("a", sharp=0.1, changing=0.08)]
    rows += [row("b", sharp=0.5, changing=0.5), row("on", sharp=0.2, changing=0.9)]
    queue = built(2, "review", json=json).review_queue(rows, GATES, 9)
    assert [gate.reason for _, clip, gate in queue if clip.clip_id == "both"] == ["static"]
    assert (queue[0][1].clip_id, queue[0][0]) == ("on", 0.0)


def test_verdicts_are_appended_and_the_last_one_counts(tmp_path):
    pieces, log = built(2, "review", json=json), tmp_path / "verdicts.jsonl"
    for clip_id, caption in (("a", None), ("a", "a fish, 日本"), ("b", None)):
        pieces.record_verdict(log, clip_id, "me", caption)
    assert len(log.read_text(encoding="utf-8").splitlines()) == 3
    left = list(pieces.after_review([row(n) for n in "abc"], log))
    assert [(r.clip_id, r.info["caption"]) for r in left] == [("a", "a fish, 日本"), ("c", "old")]


def test_compression_is_measured(tmp_path):
    source = save(moving(num_frames=16), tmp_path / "in.mp4", crf=2)
    recode = built(2, "recode", VideoReader=VideoReader).compress_video
    fine, coarse = (recode(source, tmp_path / f"{n}.mp4", "libx264", n) for n in (18, 40))
    for better in ("bytes", "SSIM", "PSNR, dB"):
        assert fine[better] > coarse[better]
    assert probe_file(tmp_path / "18.mp4").pix_fmt == "yuv420p"


def test_vmaf_ranks_as_people_do(tmp_path):
    vmaf, clip = built(2, "recode", "vmaf", probe_file=probe_file).vmaf, moving(3, 12)
    source = save(clip, tmp_path / "source.mp4", crf=2)
    files = [save(clip, tmp_path / f"{crf}.mp4", crf=crf) for crf in (16, 44)]
    marks = [vmaf(path, source, tmp_path / "log.json") for path in files]
    if marks[0] is None:
        pytest.skip("this ffmpeg has no libvmaf")
    assert 0 <= marks[1] < marks[0] <= 100


def test_trim_goes_by_time_and_refuses_what_is_no_span(tmp_path):
    tools = dict(VideoReader=VideoReader, read_clip=read_clip, run_ffmpeg=run_ffmpeg, local=local)
    trim, path = built(2, "trim", **tools).trim, save(film(), tmp_path / "film.mp4", crf=4)
    assert trim(path, 1.25, 2.5, tmp_path / "out.mp4") == (10, 20)  # the second of three shots
    change = read_clip(tmp_path / "out.mp4").frames.astype(int) - read_clip(path).frames[10:20]
    assert np.abs(change).mean() < 4
    for span in ((2.0, 1.0), (3.0, 3.0), (99.0, 100.0)):
        with pytest.raises(ValueError, match="no frame is shown"):
            trim(path, *span, tmp_path / "none.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.mp4", "out.mp4"]


def test_keyframes_come_from_looking_at_a_shot():
    keyframe = built(2, "steep", "keyframes", evenly_spaced=evenly_spaced).keyframe
    shot = blurred(moving(num_frames=9)).frames
    shot[6] = moving(num_frames=9).frames[6]
    assert np.array_equal(keyframe(shot, "middle"), shot[4])
    assert np.array_equal(keyframe(shot, "sharpest"), shot[6])
    shot[8] = 0
    typical = keyframe(shot, "most typical")
    assert any(np.array_equal(typical, frame) for frame in shot[2:6])


def test_every_file_has_an_ending_in_the_small_pipeline(tmp_path):
    paths = [save(film((1, 2), 12), tmp_path / "film.mp4")]
    paths.append(save(blurred(moving(3)), tmp_path / "soft.mp4"))
    paths.append(tmp_path / "broken.mp4")
    paths[-1].write_bytes(b"nothing")
    filtered = built(2, "filtering").filtered
    rows = [row for path in paths for row in filtered(path, GateSettings().gates())]
    assert [(r.source, r.status) for r in rows] == [
        ("film.mp4", "kept"), ("film.mp4", "kept"),
        ("soft.mp4", "rejected"), ("broken.mp4", "error"),
    ]  # fmt: skip
    assert rows[2].metric == "edge_steepness"


def test_every_shot_has_its_own_objects_and_caption(tmp_path):
    tools = dict(VideoReader=VideoReader, MotionDetector=MotionDetector)
    annotate = built(2, "scenes-of", "annotating", **tools).annotate_video
    one, other = annotate(save(film((1, 2), 12), tmp_path / "film.mp4"))
    assert (one["frames"], other["frames"]) == ((0, 12), (12, 24))
    for shot in (one, other):
        low, high = shot["frames"]
        assert shot["objects"] and all(low <= o["frame"] < high for o in shot["objects"])
    assert one["caption"] != other["caption"]


@pytest.mark.parametrize("total, budget", [(1000, 100), (9000, 100), (59, 60), (120, 64), (5, 1)])
def test_the_budget_is_met_exactly_and_the_end_is_there(total, budget):
    scores = np.zeros(total)
    scores[: total // 3] = 5  # a busy beginning
    chosen = built(2, "choose", evenly_spaced=evenly_spaced).choose(scores, (), budget)
    assert len(chosen) == min(total, budget) and chosen == sorted(set(chosen))
    if budget >= 5:
        assert chosen[-1] >= 0.9 * (total - 1)


def test_every_shot_is_shown_when_the_budget_allows_and_motion_decides_the_rest():
    choose, cuts = built(2, "choose", evenly_spaced=evenly_spaced).choose, (10, 500, 990)
    chosen = choose(np.ones(1000), cuts, 20)
    assert {0, *cuts} <= set(chosen) and len(chosen) == 20
    few = choose(np.ones(1000), tuple(range(50, 1000, 50)), 4)
    assert len(few) == 4 and few[-1] == 950
    scores = np.zeros(100)
    scores[[17, 63]] = 9
    assert {17, 63} <= set(choose(scores, (), 6))


TRUTH = [
    Planted("good.mp4", "clean", "kept", "", 0),
    Planted("soft.mp4", "blur", "rejected", "blurred", 1),
    Planted("soft2.mp4", "blur", "rejected", "blurred", 2),
    Planted("film.mp4", "film", "kept", "", 3, cuts=(10, 20)),
    Planted("broken.mp4", "truncated", "error", "", 4),
    Planted("one.mp4", "clean", "kept", "", 5),
    Planted("copy.mp4", "exact_duplicate", "rejected", "duplicate", 5),
]


def test_endings_are_marked_by_reason():
    good, soft, soft2, one, copy, *shots = (
        Row(name, f"{name}-{n}", "scenes", "kept")
        for n, name in enumerate(
            ["good.mp4", "soft.mp4", "soft2.mp4", "one.mp4", "copy.mp4", "film.mp4", "film.mp4"]
        )
    )
    rows = [Row("broken.mp4", "", "read", "error", reason="truncated: 3 frames"), good, soft]
    rows += [row.to("quality") for row in (good, soft2, one, copy, shots[1])]
    rows += [row.rejected("quality", "blurred", "sharp", 0, 1) for row in (soft, shots[0])]
    rows.append(copy.rejected("duplicates", "duplicate: of one.mp4", "copies", 2, 1))
    pieces = built(2, "marks")
    ended = {"broken.mp4": "error", "soft.mp4": "blurred", "copy.mp4": "duplicate"}
    assert pieces.endings(rows) == ended | dict.fromkeys(
        ("good.mp4", "soft2.mp4", "one.mp4", "film.mp4"), "kept"
    )
    marks = pieces.mark_endings(rows, TRUTH)
    assert marks["blurred"] == {"planted": 2, "found": 1, "precision": 1, "recall": 0.5}
    assert marks["kept"] == {"planted": 2, "found": 3, "precision": 2 / 3, "recall": 1}
    assert list(marks) == ["blurred", "error", "kept"] and marks["error"]["found"] == 1


def test_copies_are_marked_as_pairs_and_cuts_may_be_a_frame_off():
    pieces = built(2, "pairs")
    assert pieces.pairs_in([(1, "b"), (1, "a"), (2, "c"), (1, "b")]) == {("a", "b")}
    planted = {("f", 10), ("f", 20)}
    assert [pieces.snapped(("f", at), planted) for at in (10, 11, 18)] == [
        ("f", 10), ("f", 10), ("f", 18),
    ]  # fmt: skip


def test_thresholds_are_chosen_on_labelled_clips_and_wishes_are_left_alone():
    measured = {"good.mp4": 0.5, "one.mp4": 0.4, "soft.mp4": 0.2, "soft2.mp4": None}
    rows = [
        Row(name, name, "quality", "kept",
            metrics={"edge_steepness": steepness, "bright": 0.0, "short_side": 96})
        for name, steepness in measured.items()
    ]  # fmt: skip
    pieces, default = built(2, "calibrate", "choose-gates", replace=replace), GateSettings()
    chosen = pieces.choose_gates(rows, TRUTH, default)
    assert chosen.min_edge_steepness == pytest.approx(0.3)
    assert chosen.max_bright == default.max_bright  # nothing over-exposed was seen
    assert chosen.min_side == default.min_side
    sides = [pieces.is_to_learn_on(group, 0.5, seed=1) for group in range(200)]
    assert 70 < sum(sides) < 130


def test_the_manifest_rebuilds_a_clip_and_refuses_another_source(tmp_path):
    save(moving(1), tmp_path / "in" / "1.mp4")
    prepare(tmp_path / "in", tmp_path / "out", execution=Execution("serial"))
    clip = read_manifest(tmp_path / "out" / "manifest.jsonl")[-1]
    rebuild = built(2, "rebuild", cut_clip=cut_clip, file_sha256=file_sha256).rebuild
    assert rebuild(clip, tmp_path / "in", tmp_path / "again.mp4", MediaSettings())
    again = (tmp_path / "again.mp4").read_bytes()
    assert again == (tmp_path / "out" / clip.info["clip"]["file"]).read_bytes()
    save(moving(9), tmp_path / clip.source)
    with pytest.raises(ValueError, match="not the file"):
        rebuild(clip, tmp_path, tmp_path / "x.mp4", MediaSettings())


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Opens the panel on three good clips and a blurred one."""
    folder = tmp_path_factory.mktemp("panel")
    for seed in (1, 2, 3):
        save(moving(seed), folder / f"good{seed}.mp4")
    save(blurred(moving(4)), folder / "soft.mp4")
    filtered = built(2, "filtering").filtered
    paths = sorted(folder.glob("*.mp4"))
    rows = [row for path in paths for row in filtered(path, GateSettings().gates())]
    planted = [Planted("soft.mp4", "blur", "rejected", "blurred", 0)]
    given = {"figure": figure, "photo": photo, "videos": folder, "truth": planted}
    panel = built(2, "histogram", "panel", **given).ThresholdPanel

    return lambda: panel(rows, GateSettings(), "min_edge_steepness")


def test_the_panel_shows_what_is_kept_and_dropped_without_a_click(opened):
    panel = opened()
    assert "keeps 3 of 4" in panel._repr_mimebundle_()["text/plain"]
    assert "precision 1.00, recall 1.00" in panel.view.value
    assert panel.view.value.count("<img") == 2  # the histogram, and the clips


def test_moving_the_slider_changes_the_settings_and_the_picture(opened):
    panel = opened()
    before = panel.view.value
    panel.slider.value = panel.slider.max
    assert panel.settings.min_edge_steepness == pytest.approx(panel.slider.max, abs=0.01)
    assert panel.view.value != before and "keeps 1 of 4" in panel.summary()
    assert panel.settings.max_bright == 0.3


def test_another_gate_keeps_what_was_set_before(opened):
    panel = opened()
    panel.slider.value = panel.slider.min
    low = panel.settings.min_edge_steepness
    panel.menu.value = "min_side"
    assert panel.slider.value == pytest.approx(64, abs=0.2) == panel.settings.min_side
    panel.menu.value = "min_edge_steepness"
    assert panel.slider.value == pytest.approx(low, abs=1e-3)
