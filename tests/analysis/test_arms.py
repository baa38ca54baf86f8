"""The family of arms that are compared with one reference."""

import numpy as np
import pytest

from hqcnn_lab.analysis.arms import compare_arms, markdown_table
from hqcnn_lab.analysis.p_value import holm
from hqcnn_lab.analysis.paired import compare_paired


def five_seeds() -> dict[str, list[float]]:
    return {
        "adam": [0.90, 0.91, 0.92, 0.90, 0.93],
        "gvco": [0.92, 0.92, 0.95, 0.93, 0.94],
        "sgd": [0.90, 0.90, 0.93, 0.89, 0.92],
        "adamw": [0.91, 0.92, 0.93, 0.91, 0.94],
    }


def test_every_arm_is_compared_with_the_reference_and_corrected_over_all() -> None:
    values = five_seeds()
    found = compare_arms(values, "adam")
    assert [c.arm for c in found] == ["gvco", "sgd", "adamw"]
    for test in ("t", "wilcoxon", "permutation"):
        raw = [getattr(compare_paired(values[c.arm], values["adam"]), f"p_{test}") for c in found]
        assert [getattr(c, f"holm_{test}") for c in found] == pytest.approx(holm(raw))
    assert [c.reference for c in found] == ["adam"] * 3
    assert found[0].paired.mean_difference == pytest.approx(0.02)
    assert found[0].holm_permutation == pytest.approx(
        3 * 2 / 32
    )  # five pairs in a family of three: no more is possible


def test_errors_name_the_arm() -> None:
    values = five_seeds()
    with pytest.raises(ValueError, match=r"reference 'adma' .*: adam, gvco, sgd, adamw"):
        compare_arms(values, "adma")
    with pytest.raises(ValueError, match="at least one other"):
        compare_arms({"adam": values["adam"]}, "adam")
    with pytest.raises(ValueError, match=r"sgd \(a\) against adam \(b\): .*\(4,\), \(5,\)"):
        compare_arms(values | {"sgd": values["sgd"][:4]}, "adam")


def test_table_in_percent_points() -> None:
    lines = markdown_table(compare_arms(five_seeds(), "adam"), scale=100, digits=2).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in cells} == {8}
    assert cells[2][:3] == ["adam (n = 5)", "91.20 ± 1.30", "–"]
    # differences 2, 1, 3, 3, 1 points: std 1, half-width 2.776/√5, d_z 2, J(4) = 0.7979
    assert cells[3][:3] == ["gvco", "93.20 ± 1.30", "+2.00 (+0.76 to +3.24)"]
    assert cells[3][4:] == ["0.188", "0.188", "+1.60", "5"]
    assert cells[5][2:] == ["+1.00 (– to –)", "1.000", "0.188", "0.188", "–", "–"]  # the same point every time


def test_table_shows_small_p_as_a_bound() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(16)
    table = markdown_table(compare_arms({"a": base, "b": base + 10 + 0.1 * rng.random(16)}, "a"))
    assert table.splitlines()[-1].count("< 0.001") == 3
