"""Facts, boxes and tables."""

from datetime import date

import pandas as pd
import pytest
import torch

from vidgen_lab.toyworld import parse_prompt
from vidgen_lab.workbook import notes


@pytest.mark.parametrize("topic", ["timeline", "models", "uses"])
def test_dated_facts_have_a_date_and_a_source(topic):
    table = notes.facts(topic)
    assert len(table) >= 8 and (table["source"].str.len() > 5).all()
    for day in table.get("date", table.get("released", table.get("dated"))):
        assert "2013" <= str(day)[:4] <= notes.read_on()[:4]


def test_chapter_2_facts_are_complete():
    assert list(notes.facts("video_types").type) == ["raw", "compressed", "annotated", "streaming"]
    codecs = notes.facts("standards").set_index("codec")
    assert "coding tree" in codecs.loc["H.265 / HEVC", "blocks"]
    assert "DVD" in codecs.loc["MPEG-2", "where"] and "Alliance" in codecs.loc["AV1", "by"]
    pipelines = notes.facts("pipelines").set_index("stage")
    assert {"quality", "scenes", "duplicates", "balance", "annotation"} <= set(pipelines.index)
    assert "arXiv" in pipelines.loc["source", "hunyuan"]
    sets = notes.facts("datasets").set_index("name")
    assert "Kay" in sets.loc["Kinetics-400", "source"]
    assert "Carreira" in sets.loc["Kinetics-700", "source"]
    assert sets.source.str.len().min() > 5


def test_read_on_is_a_day():
    assert date.fromisoformat(notes.read_on())


def test_counted_sizes_agree_with_the_table():
    from diffusers import CogVideoXTransformer3DModel

    models = notes.facts("models").set_index("name")
    layouts = {"2B": (30, 30, False), "5B": (48, 42, True)}
    for name, (heads, blocks, rotary) in layouts.items():
        with torch.device("meta"):
            model = CogVideoXTransformer3DModel(
                num_attention_heads=heads,
                num_layers=blocks,
                use_rotary_positional_embeddings=rotary,
            )
        counted = model.num_parameters() / 1e9
        assert models.loc[f"CogVideoX-{name}", "transformer_b"] == pytest.approx(counted, abs=0.01)


def test_every_pipeline_of_the_landscape_is_in_diffusers():
    import diffusers

    named = [name for name in notes.facts("models").pipeline if name]
    assert len(named) >= 10 and all(hasattr(diffusers, name) for name in named)


def test_every_prompt_of_the_bank_belongs_to_the_toy_world():
    for prompt in notes.facts("prompts")["prompt"]:
        assert "subject" in parse_prompt(prompt), prompt


def test_unknown_topic_names_the_topics():
    with pytest.raises(ValueError, match="timeline"):
        notes.facts("recipes")


def test_tier_table_has_a_row_per_tier():
    from vidgen_lab.settings.tiers import load_tiers

    assert list(notes.tier_times().index) == list(load_tiers())


def test_box_and_sentence_are_markdown_in_one_piece():
    box = notes.measured("they say", "we\n   found 3", "do this", "E60").data
    assert "E60" in box and "we found 3" in box
    assert all(line.startswith(">") for line in box.splitlines())
    assert notes.say("one\n  two").data == "one two"


def test_table_aligns_words_left_and_numbers_right():
    frame = pd.DataFrame({"what": ["a|b", "c"], "n": [1234.5, 2.0], "ok": [True, False]})
    lines = notes.table(frame, digits=1).data.splitlines()
    assert lines[0] == "| what | n | ok |"
    assert lines[1] == "|:---|---:|---:|"
    assert lines[2] == "| a\\|b | 1,234.5 | yes |"
    assert lines[3] == "| c | 2 | no |"


def test_table_shows_an_index_that_says_something():
    shown = notes.table(pd.Series([0.5], index=["frozen"], name="score")).data.splitlines()
    assert shown[-1] == "| frozen | 0.500 |"


@pytest.mark.parametrize(
    "hostile",
    [
        "<img src=x onerror=alert(1)>",
        "![x](http://127.0.0.1/seen.png)",
        "![x][y]",
        "a|b<script>alert(1)</script>",
        "two\u2028lines\x0b<svg/onload=alert(1)>",
    ],
)
def test_nothing_that_others_wrote_is_alive_in_a_notebook(hostile):
    """As nbconvert and JupyterLab render it: no tag, no picture, no link that hides its target."""
    from nbconvert.filters import markdown2html

    shown = [
        notes.table(pd.DataFrame({"prompt": [hostile], hostile: [1]})),
        notes.table(pd.Series({hostile: 1.5}, name=hostile)),
        notes.say(hostile),
        notes.measured(hostile, hostile, hostile),
    ]
    for one in shown:
        page = markdown2html(one.data)
        for alive in ("<img", "<script", "<svg", ">x</a>"):
            assert alive not in page, page
        assert len(one.data.splitlines()) in (1, 3, 5)
