import IPython.display
import pytest

from vidgen_lab import progress
from vidgen_lab.progress import Progress, duration


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    real = Progress.__init__

    def init(self, *args, **options):
        real(self, *args, **options)
        self._time = lambda: now[0]
        self.start_t = self.last_print_t = now[0]

    monkeypatch.setattr(Progress, "__init__", init)
    return now


def test_a_log_gets_one_line_at_the_end_and_on_standard_output_only(capsys):
    assert list(Progress([1, 2, 3], "judging", "clip")) == [1, 2, 3]
    out, err = capsys.readouterr()
    assert out.startswith("judging: 3/3 clips, 0.")
    assert out.count("\n") == 1
    assert err == ""


def test_a_log_gets_a_line_now_and_then(capsys, clock):
    with Progress(10, "sampling") as bar:
        for seconds in (5, 5, 5):
            clock[0] += seconds
            bar.update(2, note="decoding")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "sampling: 4/10 steps, 10 s, about 15 s left, decoding",
        "sampling: 6/10 steps, 15 s, about 10 s left, decoding",
    ]


def test_a_log_gets_no_line_twice(capsys, clock):
    with Progress(2, "encoding", "clip") as bar:
        clock[0] += 20
        bar.update(2)
    assert capsys.readouterr().out == "encoding: 2/2 clips, 20 s\n"


@pytest.mark.parametrize(("unit", "units"), [("clip", "clips"), ("batch", "batches")])
def test_units_are_counted_in_english(unit, units):
    assert str(Progress(3, "encoding", unit)).startswith(f"encoding: 0/3 {units},")


@pytest.mark.parametrize(
    ("work", "done", "even"), [(10, 1, True), (10, 10, True), (None, 3, True), (10, 2, False)]
)
def test_no_forecast_before_two_steps_after_the_last_or_of_uneven_ones(work, done, even, clock):
    bar = Progress(work, "s", even=even)
    bar.update(done)
    clock[0] += 4
    assert "left" not in str(bar)


def test_a_terminal_gets_tqdms_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with Progress(2, "sampling") as bar:
        bar.update(2, note="decoding")
    out, err = capsys.readouterr()
    assert "\rsampling: 100%|" in out and "decoding" in out
    assert err == ""


def test_a_notebook_gets_one_line_that_updates_itself(capsys, monkeypatch):
    shown = []

    class Handle:
        def update(self, bundle, raw):
            shown.append(bundle)

    def display(bundle, raw, display_id):
        shown.append(bundle)
        return Handle()

    monkeypatch.setattr(progress, "_in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", display)
    with Progress(2, "a <b>") as bar:
        bar.update(2)
    assert shown[0]["text/html"].startswith('<progress value="0" max="2"></progress> a &lt;b&gt;')
    assert shown[-1]["text/plain"].startswith("a <b>: 2/2 steps")
    assert "<progress" not in shown[-1]["text/html"]
    assert capsys.readouterr().out == ""


def test_nothing_is_shown_when_there_is_nothing_to_do(capsys):
    with Progress(0, "encode", disable=True) as bar:
        bar.update(0)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (59.4, "59 s"), (59.9, "1 min 00 s"), (4800, "1 h 20 min")],
)
def test_duration_reads_naturally(seconds, text):
    assert duration(seconds) == text
