# SPDX-License-Identifier: GPL-3.0-or-later
"""The short form of the stress test; test/stress is the long one."""
import os

from harness import test
from stress import Stress


@test(quick=True, limit=120)
def test_nothing_is_left_after_twenty_seconds_of_everything_at_once_and_who_behaves_does_not_notice(t):
    seed = os.environ.get("STRESS_SEED") or int.from_bytes(os.urandom(4), "big")
    stress = Stress(t, seed=seed, seconds=20, clients=8, steady=2)
    assert stress.run(), "; ".join(stress.problems)[:4000]
