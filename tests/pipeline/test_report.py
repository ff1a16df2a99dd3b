from dataclasses import replace

import numpy as np

from tests.pipeline.samples import save
from vidgen_lab.pipeline import report
from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.select.gates import Gate
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.sheets import write_png


def rows_of(*fates: str) -> list[Row]:
    """One clip a fate, as far as the quality stage."""
    read = [Row(f"{n}.mp4", f"id{n}", "read", "kept") for n in range(len(fates))]
    clips = [row.to("scenes") for row in read]
    quality = {
        "kept": lambda row: row.to("quality"),
        "rejected": lambda row: row.rejected("quality", "blurred", "edge_steepness", 0.1, 0.2),
        "error": lambda row: row.failed("quality", "broken"),
    }
    return [*read, *clips, *(quality[f](row) for f, row in zip(fates, clips, strict=True))]


def test_the_figure_shows_the_counted_clips_and_the_books_as_a_shape():
    figure = report.funnel_figure(rows_of("kept", "kept", "rejected", "error"))
    ours, book = figure.axes
    widths = [[bar.get_width() for bar in bars] for bars in ours.containers]
    assert widths == [[4, 2], [0, 1], [0, 1]]  # kept, rejected and error of scenes and quality
    assert [label.get_text() for label in ours.get_yticklabels()] == ["scenes", "quality"]
    assert [text.get_text().strip() for text in ours.texts] == ["4 of 4", "2 of 4"]
    assert ours.get_xlim()[1] > 1.1 * 4  # the words stand within
    assert "illustrative" in book.get_title()
    heights = [bar.get_height() for bar in book.patches]
    assert heights[-1] / heights[0] == 0.385


def test_the_summary_counts_every_fate_and_reason():
    text = report.summary(rows_of("kept", "rejected", "rejected", "error"))
    assert text.splitlines()[3].split() == ["quality", "4", "1", "2", "1"]
    assert "2  quality: blurred" in text and "1  quality: broken" in text


def test_a_picture_on_the_sheet_keeps_its_shape(tmp_path):
    tall = np.full((8, 128, 64, 3), 200, np.uint8)
    tall[:, ::16], tall[:, :, ::16] = 20, 20
    save(Clip(tall, 8), tmp_path / "0.mp4", crf=4)
    row = replace(rows_of("kept")[-1], frames=(0, 8), metrics={"sharp": 0.3})
    gate = Gate("blurred", "sharp", 0.2, least=True)
    sheet = report.borderline_sheet([row], [gate], tmp_path, per_gate=1, width=160)
    picture = sheet[4:-24, 4:-4]
    beside = (picture == 230).all(2).all(0)
    assert sum(~beside) == len(picture) // 2 and beside[0] and beside[-1]


def test_a_sheet_is_written_and_read_back(tmp_path):
    import cv2

    sheet = np.zeros((20, 30, 3), np.uint8)
    sheet[:, :10] = (200, 40, 40)
    read = cv2.imread(str(write_png(sheet, tmp_path / "a.png")))[..., ::-1]
    assert np.array_equal(read, sheet)
