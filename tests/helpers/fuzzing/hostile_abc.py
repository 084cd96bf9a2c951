"""ABC texts designed to do harm: to open files, to crash a reader, to keep it busy."""

_HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"


def _header(line: str) -> str:
    return _HEAD.replace("K:C", f"{line}\nK:C") + "C16|]\n"


# Attack -> the text. Most are based on a crash or a hang of one of the readers.
HOSTILE: dict[str, str] = {
    "include": _HEAD + "%%abc-include /etc/hostname\nC16|]\n",
    "include_in_the_header": _header("%%abc-include /etc/passwd"),
    "include_as_instruction": _HEAD + "I:abc-include /etc/hostname\nC16|]\n",
    "nested_parts": _header("P:((((((A9)9)9)9)9)9)"),
    "giant_note": _HEAD + "C99999999|]\n",
    "giant_rest": _HEAD + "Z99999999|]\n",
    "giant_tuplet": _HEAD + "(999999999:1:999999999CDE|]\n",
    "giant_tempo": _HEAD.replace("=120", "=" + "9" * 400) + "C16|]\n",
    "giant_metre": _HEAD.replace("4/4", "9" * 400 + "/4") + "C16|]\n",
    "giant_key": _HEAD.replace("K:C", "K:" + "^c" * 9999) + "C16|]\n",
    "giant_octave": _HEAD + "c" + "'" * 60_000 + "|]\n",
    "line_of_a_megabyte": _HEAD + "C" * 1_000_000 + "|]\n",
    "many_voices": _HEAD + "".join(f"V:{number}\nC16|]\n" for number in range(3000)),
    "many_errors": _HEAD + "H~q@#$%^&*(\n" * 20_000,
    "many_repeats": _HEAD + "|:" * 5000 + "C16" + ":|" * 5000,
    "deep_chord": _HEAD + "[" * 50_000,
    "deep_tuplet": _HEAD + "(3" * 20_000,
    "deep_grace": _HEAD + "{" * 20_000 + "C",
    "macro": _header("m:~n2 = " + "C" * 5000) + "~n2" * 5000,
    "redefined_symbol": _header("U: T = !trill!") + "T" * 5000,
    "postscript": _HEAD + "%%beginps\n(/etc/passwd) run\n%%endps\nC16|]\n",
    "nul": _HEAD + "C\x00D16|]\n",
    "control_characters": _HEAD + "\x07\x1b[2JC16|\x0b\x1c\x85]\n",
    "no_utf8": _HEAD + "\udcff\ud800C16|]\n",
    "zero_division": _HEAD.replace("4/4", "4/0") + "C/0|]\n",
    "nothing": "",
}
