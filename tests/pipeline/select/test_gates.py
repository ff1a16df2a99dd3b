from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.select import gates
from vidgen_lab.pipeline.select.gates import Gate, GateSettings

GOOD = {
    "short_side": 96, "seconds": 2, "fps": 8, "blank": 0, "bright": 0, "dark": 0, "bars": 0,
    "stripes": 0, "frozen": 0, "changing": 0.3, "flow_speed": 3, "edge_steepness": 0.4,
}  # fmt: skip


def row(**metrics) -> Row:
    return Row("a.mp4", "0", "scenes", "kept", metrics={**GOOD, **metrics})


def test_the_first_missed_gate_gives_the_reason_and_all_are_noted():
    judged = gates.judge(row(edge_steepness=0.1, frozen=1.0), GateSettings().gates())
    assert (judged.status, judged.reason, judged.metric) == ("rejected", "frozen", "frozen")
    assert (judged.value, judged.threshold) == (1.0, GateSettings().max_frozen)
    assert judged.info["failed_gates"] == ["frozen", "blurred"]
    assert gates.judge(row(), GateSettings().gates()).status == "kept"


def test_a_threshold_itself_passes_and_none_switches_a_gate_off():
    settings = GateSettings(min_edge_steepness=0.3)
    assert gates.judge(row(edge_steepness=0.3), settings.gates()).status == "kept"
    off = GateSettings(min_edge_steepness=None)
    assert gates.judge(row(edge_steepness=0.0), off.gates()).status == "kept"


def test_what_was_not_measured_is_not_a_low_value():
    judged = gates.judge(row(changing=None), GateSettings().gates())
    assert judged.reason == "unmeasured: changing" and judged.value is None


def test_slow_is_a_wish_and_static_a_defect():
    crawling = row(flow_speed=0.001)
    assert gates.judge(crawling, GateSettings().gates()).status == "kept"
    assert gates.judge(crawling, GateSettings(min_flow_speed=0.5).gates()).reason == "slow"
    assert gates.judge(row(changing=0.0), GateSettings().gates()).reason == "static"


def test_thresholds_can_be_looked_at_before_anything_is_dropped():
    rows = [row(flow_speed=m) for m in range(11)]
    gate = Gate("static", "flow_speed", 4, least=True)
    assert gates.quantiles(rows, "flow_speed", (0.5,)) == {0.5: 5}
    assert [r.metrics["flow_speed"] for r in gates.borderline(rows, gate, 1)] == [4]


def test_the_borderline_shows_both_sides():
    gate = Gate("static", "changing", 0.1, least=True)
    rows = [row(changing=c) for c in (0, 0, 0, 0, 0.5, 0.6, 0.7, None)]

    def shown(count):
        return [r.metrics["changing"] for r in gates.borderline(rows, gate, count)]

    assert shown(4) == [0, 0, 0.5, 0.6]
    assert shown(7) == [0, 0, 0, 0, 0.5, 0.6, 0.7] == shown(99)
    one_side = [row(changing=c) for c in (0.5, 0.6, 0.7)]
    assert len(gates.borderline(one_side, gate, 3)) == 3
