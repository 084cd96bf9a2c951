"""Odd inputs for the converter, and what must hold for each of them.

Used by test_fuzz_conversion.py, a few seconds of it, and by benchmarks/fuzz_conversion.py, hours.

Inputs keep enough structure to get past the first check of a parser: MIDI files are written event
by event or are real ones with parts moved about; texts follow the grammar of the dialect nearly
or are real output with parts moved about. Random bytes alone would only ever test the header.

A check returns None, or one line that says what failed: a kind, which does not depend on the
details of the input, then " (", details, ")". `kind_of` cuts the details off, for grouping.
"""
