"""What bf16 costs, from runs of a study."""

import pytest

from scaling.precision import compare
from scaling.records import RecordError


def row(size, precision, seed, loss, seconds=10.0):
    return {
        **{"run": f"{size}_{precision}_s{seed}", "size": f"{size}_{precision}", "arch": "gpt"},
        **{"precision": precision, "seed": seed, "loss": loss},
        **{"n_tokens": 1000, "train_cpu_seconds": seconds},
    }


ROWS = [
    *(row("small", "fp32", seed, loss) for seed, loss in ((1, 1.00), (2, 1.02))),
    *(row("small", "bf16", seed, loss, 5.0) for seed, loss in ((1, 1.01), (2, 1.05))),
]


def test_differences_are_those_of_the_seeds_pairs_beside_pooled_noise():
    found = compare(ROWS)
    # variances 0.0002 and 0.0008, one degree of freedom each
    assert found["seed_deviation_nats_per_token"] == pytest.approx(0.0005**0.5)
    (size,) = found["sizes"]
    assert (size["size"], size["n_seeds"]) == ("small", 2)
    assert size["difference_nats_per_token"] == pytest.approx(0.02)
    assert size["difference_in_deviations"] == pytest.approx(0.02 / 0.0005**0.5)
    assert size["tokens_per_cpu_second_ratio"] == pytest.approx(2.0)


def test_what_cannot_be_compared_is_an_error():
    with pytest.raises(RecordError, match="expected its name to end in its precision"):
        compare([ROWS[0] | {"precision": "bf16"}])
    with pytest.raises(RecordError, match="single seed"):
        compare([ROWS[0], ROWS[2]])
    with pytest.raises(RecordError, match="no size was trained in fp32 and in bf16"):
        compare([ROWS[0], ROWS[1]])
