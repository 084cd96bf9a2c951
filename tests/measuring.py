"""What stage 2 tells of a text, in one call."""

from data_prep.abc_to_midi import perform
from data_prep.clean import measured
from data_prep.duplicates import DuplicateSettings, signature
from data_prep.tune_parser import parse_tune


def measure(abc):
    """Counts, fingerprint and figures of a tune in the layout `bars`."""
    performance = perform(parse_tune(abc))
    return measured(performance, abc) | {"figures": signature(performance, DuplicateSettings())}
