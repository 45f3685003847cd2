"""The scorer of scenes against labels, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rule_choice import f1


def test_scenes_do_not_overlap_and_hit_within_5_seconds() -> None:
    starts = np.arange(0.0, 200, 5)
    scores = np.zeros(len(starts))
    # The best three that are 15 s apart: 20, 100, 150; 25 overlaps 20.
    scores[[4, 5, 20, 30]] = 0.9, 0.8, 0.7, 0.6
    labels = np.array([[38.0, 41.0], [96.0, 97.0], [10.0, 12.0]])
    # 20-35 is within 5 s of 38-41 but not of 10-12; 100-115 is within 5 s of 96-97.
    assert f1(starts, scores, labels) == pytest.approx(2 / 3)
    labels[2] = 14.0, 16.0
    # Now all labels are found, by two of three scenes.
    assert f1(starts, scores, labels) == pytest.approx(2 * 2 / 3 / (2 / 3 + 1))
    assert f1(starts, scores, labels + 1000) == 0
