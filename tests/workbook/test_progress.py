import pytest

from vidgen_lab.workbook.progress import Progress, State, duration, track


def test_plain_lines_go_to_standard_output_only(capsys):
    assert list(track([1, 2, 3], "judging", "clip")) == [1, 2, 3]
    out, err = capsys.readouterr()
    assert out.startswith("judging: 3/3 clips")
    assert out.count("\n") == 1
    assert err == ""


def test_time_left_needs_two_steps_and_ends_with_the_work():
    assert State("s", 1, 10, seconds=5.0).seconds_left is None
    assert State("s", 2, 10, seconds=4.0).seconds_left == pytest.approx(16.0)
    assert "about 16 s left" in str(State("s", 2, 10, seconds=4.0))
    assert State("s", 10, 10, seconds=9.0).seconds_left is None
    assert State("s", 3, None, seconds=9.0).seconds_left is None
    assert State("s", 2, 10, seconds=4.0, even=False).seconds_left is None


def test_a_panel_can_show_the_states_itself():
    states = []
    with Progress(2, "sampling", show=states.append) as progress:
        progress.update()
        progress.update(note="decoding")
    assert [s.done for s in states] == [0, 1, 2]
    assert states[-1].finished
    assert states[-1].note == "decoding"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (59.4, "59 s"), (59.9, "1 min 00 s"), (4800, "1 h 20 min")],
)
def test_duration_reads_naturally(seconds, text):
    assert duration(seconds) == text
