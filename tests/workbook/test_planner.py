"""The memory plan against figures that others published."""

import pytest

from vidgen_lab.workbook.planner import GIB, plan

# GB as printed; diffusers documentation of CogVideoX and the CogVideo README ("minimum").
PUBLISHED = [
    (33, {}),
    (19, {"offload": "model"}),
    (11, {"offload": "model", "tiling": True}),
    (4, {"offload": "sequential", "tiling": True}),
    (5, {"model": "CogVideoX-5B", "dtype": "bfloat16", "offload": "sequential", "tiling": True}),
]


@pytest.mark.parametrize(("gigabytes", "settings"), PUBLISHED)
def test_estimate_is_near_the_published_peak(gigabytes, settings):
    assert plan(**settings).peak * GIB / 1e9 == pytest.approx(gigabytes, rel=0.3)


def test_each_option_saves_and_longer_costs_more():
    plain, parts, layers = (plan(offload=mode).peak for mode in ("none", "model", "sequential"))
    assert plain > parts > layers
    assert plan(num_frames=9).work["transformer"] < plan(num_frames=49).work["transformer"]
    assert plan(guidance=False).work["transformer"] == plan().work["transformer"] / 2
    assert plan(dtype="float32").weights["transformer"] == 2 * plan().weights["transformer"]


def test_fits_and_explain():
    tight = plan(offload="model", tiling=True)
    assert tight.fits(12) and not tight.fits(8)
    assert f"{tight.peak:.1f} GiB" in tight.explain()
    with pytest.raises(ValueError, match="CogVideoX-5B"):
        plan("CogVideoX-9B")
