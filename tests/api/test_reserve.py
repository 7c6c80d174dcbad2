"""What is set aside is there when it is needed, and taken back."""

import os

from egress_policy.api.reserve import Reserve


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_are_set_aside_given_up_and_taken_back() -> None:
    before = descriptors()
    reserve = Reserve(3)
    assert descriptors() == before + 3
    assert [reserve.give_up() for _ in range(4)] == [True, True, True, False]
    assert descriptors() == before
    reserve.fill()
    reserve.fill()
    assert descriptors() == before + 3
    reserve.close()
    assert descriptors() == before
