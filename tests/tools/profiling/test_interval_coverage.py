"""The intervals cover the mean value, and the mean difference of two systems, at the same number of clips."""

from tools.profiling.interval_coverage import SimulatedPair, SimulatedSet, coverage, difference_coverage


def test_interval_covers_the_value_at_this_number_of_clips():
    found = coverage(SimulatedSet(20, 5, 8), sets=60)
    assert found.value >= 0.9
    assert found.limit < found.value  # the limit is lower, because few samples bias the value upwards


def test_differences_of_many_samples_are_neither_overstated_nor_decided_by_chance():
    equal = SimulatedPair(20, 10, 16, better=1.2)
    found, exact = difference_coverage(equal, sets=100), difference_coverage(equal, sets=20, exact=True)
    assert found.value >= 0.9
    assert found.decided <= 0.1  # 5 %, more by two standard errors of 100 sets
    assert 0.85 < found.ratio < 1.25
    assert exact.ratio > found.ratio + 0.1
