"""Putting chunks into order, as pure code."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from skyexport.rendering.sequence import Sequencer


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_any_arrival_gives_the_same_order(sizes: list[int], rng: random.Random) -> None:
    """However batches interleave, items come out by batch and within it as they came, each once, as early as can be."""
    pending = {sequence: list(range(size)) for sequence, size in enumerate(sizes)}
    sequencer: Sequencer[tuple[int, int]] = Sequencer()
    released: list[tuple[int, int]] = []
    arrived: set[tuple[int, int]] = set()
    while pending:
        sequence = rng.choice(sorted(pending))
        number = pending[sequence].pop(0)
        if not pending[sequence]:
            del pending[sequence]
        arrived.add((sequence, number))
        released += sequencer.add(sequence, (sequence, number), is_last=sequence not in pending)
        everything = [(sequence, number) for sequence, size in enumerate(sizes) for number in range(size)]
        expected = []
        for item in everything:
            if item not in arrived:
                break
            expected.append(item)
        assert released == expected
    assert sequencer.next_sequence == len(sizes)
