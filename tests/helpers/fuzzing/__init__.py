"""Odd inputs for the converter, and invariants for each of them.

Used by test_fuzz_conversion.py for a few seconds and by benchmarks/fuzz_conversion.py for hours.

Inputs keep enough structure to get past a parser's first check: MIDI files are written event by
event or are mutated real ones; texts are close to the grammar of the dialect or are mutated real
output. Random bytes alone would only ever test the header.

A check returns None, or one line that states what failed: a kind, which does not depend on the
details of the input, then " (", details, ")". `kind_of` strips the details, for grouping.
"""
