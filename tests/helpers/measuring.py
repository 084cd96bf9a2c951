"""What stage 2 measures of a text, in one call."""

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.tune_parser import parse_tune
from data_prep.selection.clean import measured
from data_prep.selection.duplicates import DuplicateSettings, signature


def measure(abc):
    """Counts, fingerprint and figures of a tune in the layout `bars`."""
    performance = perform(parse_tune(abc))
    return measured(performance, abc) | {"figures": signature(performance, DuplicateSettings())}
