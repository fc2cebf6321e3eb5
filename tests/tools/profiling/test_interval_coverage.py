"""The interval covers the mean value at the same number of clips."""

from tools.profiling.interval_coverage import SimulatedSet, coverage


def test_interval_covers_the_value_at_this_number_of_clips():
    found = coverage(SimulatedSet(20, 5, 8), sets=60)
    assert found.value >= 0.9
    assert found.limit < found.value  # the limit is lower, because few samples bias the value upwards
