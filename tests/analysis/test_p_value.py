"""Holm's correction against closed testing, and how a p-value is written."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqcnn_lab.analysis.p_value import holm, p_text


def test_holm_by_hand() -> None:
    # sorted: 0.005 × 4, 0.01 × 3, 0.03 × 2, 0.04 × 1 → raised to the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm({"b": 0.6, "a": 0.5}) == {"b": 1.0, "a": 1.0}
    assert list(holm({"b": 0.6, "a": 0.5})) == ["b", "a"]
    assert holm([]) == []
    assert holm({}) == {}
    assert holm([0.02]) == [0.02]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p: list[float]) -> None:
    """A hypothesis falls when every intersection that contains it falls: the largest of their Bonferroni p-values."""
    indices = range(len(p))
    families = [f for size in range(1, len(p) + 1) for f in itertools.combinations(indices, size)]
    expected = [max(min(1.0, len(f) * min(p[i] for i in f)) for f in families if k in f) for k in indices]
    adjusted = holm(p)
    assert adjusted == pytest.approx(expected)
    assert all(x <= y <= 1 for x, y in zip(p, adjusted, strict=True))
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_holm_refuses_what_is_no_p_value(p: float) -> None:
    with pytest.raises(ValueError, match=rf"{p} does not"):
        holm({"a": 0.5, "b": p})


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "< 0.001"), (0.00099, "< 0.001"), (0.001, "0.001"), (0.0625, "0.062"), (float("nan"), "–")]
)
def test_a_p_value_is_written_to_three_decimals(p: float, text: str) -> None:
    assert p_text(p) == text
