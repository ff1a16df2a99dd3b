"""Agreement on small tables with known answers."""

import pandas as pd
import pytest

from vidgen_lab.workbook.rating import rater_agreement


def test_rater_agreement():
    rows = [("a", c, s) for c, s in zip("xyz", (1, 3, 5), strict=True)]
    rows += [("b", c, s) for c, s in zip("xyz", (1, 3, 5), strict=True)]
    table = pd.DataFrame(rows, columns=["rater", "clip", "score"]).assign(question="motion")
    assert rater_agreement(table)["motion"] == pytest.approx(1)
    with pytest.raises(ValueError, match="two raters"):
        rater_agreement(table[table.rater == "a"])
