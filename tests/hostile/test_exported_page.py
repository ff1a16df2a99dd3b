"""The HTML copy of an executed notebook: what others wrote is words in it, never alive.

A notebook that shows prompts, file names, titles and licences in every way the workbook has is run
once, and its page is read tag by tag. Each of the hostile words would load a picture from MARK, run
a script that names it or lead there.
"""

from html.parser import HTMLParser

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vidgen_lab.workbook.runner import prepare, run_notebook

MARK = "evil.invalid"
HOSTILE = (
    f"<img src=http://{MARK}/a.png onerror=alert('{MARK}')>",
    f"<script>fetch('http://{MARK}')</script>",
    f'"><svg onload=alert("{MARK}")>',
    f"![x](http://{MARK}/b.png)",
    f"[x](javascript:alert('{MARK}'))",
    f"' onmouseover='alert(\"{MARK}\")",
    f"</td></table></div><iframe src=//{MARK}>",
    f"| a | b |\n|---|---|\n<object data=http://{MARK}>",
)
NAME = f"09_<img src=x onerror=alert('{MARK}')>"

SHOW = """
from pathlib import Path
import numpy as np, pandas as pd
from vidgen_lab.progress import Progress
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.show import show_video, show_videos
from vidgen_lab.video.writer import write_clip
from vidgen_lab.workbook.exercises import Result, Solution
from vidgen_lab.workbook.notes import measured, say, table
from vidgen_lab.workbook.show import figure, photo, strips

words = [prompt, *HOSTILE]
small = Clip(np.zeros((2, 16, 16, 3), np.uint8), 8)
large = Clip(np.zeros((2, 240, 320, 3), np.uint8), 8)
for word in words:
    display(table(pd.DataFrame({"file": [word], word: [1.0]}, index=[word])))
    display(table(pd.Series({word: 1.0}, name=word)))
    display(say(word), say(f"of {word} it is said"), measured(word, word, word, word))
    display(Result("9.1", "wrong", word), Solution("9.1", word))
    for clip in (small, large):
        shown = Clip(clip.frames, 8, {"prompt": word})
        display(show_video(shown), show_video(clip, alt=word), show_videos([clip], [word]))
    with figure(word, 1.0) as drawn:
        drawn.axes.set_title("a")
    display(photo(small.frames[0], word), strips({word: small}, word))
    display(pd.DataFrame({word: [word]}, index=[word]))
    print(word)
    list(Progress([1], word))
    named = word.replace("/", "_").replace("\\n", " ") + ".mp4"
    display(show_video(write_clip(large, Path(out_dir) / named)))
    display(show_video(write_clip(small, Path(out_dir) / ("s" + named))))
Path(out_dir, "t.csv").write_text("a\\n1\\n")
"""


class Alive(HTMLParser):
    """Collects every tag and script in which a hostile word would act."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.words = ""
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        for name, value in attrs:
            acts = name.startswith("on") or name in ("src", "href", "data", "srcdoc", "style")
            # A bare address that became a link shows where it leads and loads nothing.
            shown = tag == "a" and name == "href" and (value or "").startswith("http")
            if acts and not shown and MARK in (value or ""):
                self.found.append(f"<{tag} {name}={value!r}>")

    def handle_data(self, data: str) -> None:
        if self._tag in ("script", "style") and MARK in data:
            self.found.append(f"<{self._tag}>{data[:200]}")
        elif self._tag not in ("script", "style"):
            self.words += data

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""


def build(folder):
    """The notebook, under a name that would act as well."""
    cells = [
        new_markdown_cell("# A chapter"),
        new_code_cell(
            'prompt: str = "a ball"\nout_dir: str | None = None', metadata={"tags": ["parameters"]}
        ),
        new_code_cell(f"HOSTILE = {HOSTILE!r}"),
        new_code_cell(SHOW),
    ]
    notebook = new_notebook(cells=cells)
    notebook.metadata["vidgen_lab"] = {"artefacts": ["t.csv"]}
    path = folder / f"{NAME}.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = build(folder)
    run = run_notebook(path, prepare(path, {"prompt": HOSTILE[0]}), folder / "run")
    return run.html.read_text(encoding="utf-8")


def test_nothing_that_others_wrote_is_alive_on_the_page(page):
    parser = Alive()
    parser.feed(page)
    assert parser.found == []


def test_all_of_it_is_there_as_words(page):
    parser = Alive()
    parser.feed(page)
    for word in HOSTILE:
        for line in word.split("\n"):
            assert line.strip() in parser.words, line


@pytest.mark.parametrize("word", HOSTILE)
def test_the_check_itself_finds_what_is_alive(word):
    if word.startswith(("!", "[", "'", "|")):
        return  # alive only after Markdown, or inside an attribute
    parser = Alive()
    parser.feed(f"<p>{word}</p>")
    assert parser.found
