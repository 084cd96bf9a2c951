import re
import shutil
from pathlib import Path

import pytest
from test_structure import PACKAGES as ALL_PACKAGES

from data_prep.corpus import CorpusStages
from data_prep.shards.shard_files import converter_code
from data_prep.storage.code_identity import PACKAGES, code_digest, definitions_used, digest_of

ROOT = Path(__file__).parents[2]
STAGES = {
    "1_abc": [
        ("data_prep.shards.convert_file", "convert_file"),
        ("data_prep.shards.convert_file", "row_before"),
        ("data_prep.shards.shard_files", "write_shard"),
    ],
    "2_clean": [("data_prep.corpus", "CorpusStages._clean")],
    "3_filtered": [("data_prep.corpus", "CorpusStages._filter")],
    "4_split": [("data_prep.corpus", "CorpusStages._split")],
    "5_tokens": [("data_prep.corpus", "CorpusStages._tokens")],
    "6_blocks": [("data_prep.corpus", "CorpusStages._blocks")],
}


@pytest.fixture
def copied(tmp_path):
    """A copy of the package that a test may change."""
    shutil.copytree(ROOT / "data_prep", tmp_path / "data_prep")
    return tmp_path


def digests(project=ROOT):
    return {stage: digest_of(starts, project) for stage, starts in STAGES.items()}


def change(file, pattern, text):
    before = file.read_text("utf-8")
    after = re.sub(pattern, text, before, flags=re.DOTALL)
    assert after != before, f"{pattern} is not in {file.name}"
    file.write_text(after, "utf-8")


def changed_stages(project):
    before, after = digests(), digests(project)
    return [stage for stage in STAGES if before[stage] != after[stage]]


def test_stages_take_the_digests_of_their_own_functions():
    found = digests()
    assert converter_code() == found["1_abc"]
    assert code_digest(CorpusStages._tokens) == found["5_tokens"]
    assert len(set(found.values())) == len(STAGES)


@pytest.mark.parametrize(
    ("stage", "names", "others"),
    [
        ("1_abc", "snap_onsets _TRIPLET LIMITS BarWriter merge_voices SCHEMA", "parse_tune"),
        ("2_clean", "clean_row parse_tune perform Tune signature write_table", "drop_reason"),
        ("3_filtered", "drop_reason clusters first_of_copies clean_row", "snap_onsets split_of"),
        ("4_split", "split_of SPLITS TableWriter", "parse_tune signature"),
        ("5_tokens", "train_tokenizer ALPHABET augmented encode_rows", "split_of clusters"),
        (
            "6_blocks",
            "write_blocks heads_then_rests songs_end_to_end",
            "train_tokenizer parse_tune",
        ),
    ],
)
def test_stage_depends_on_what_it_uses_and_on_nothing_else(stage, names, others):
    used = {name for _, name in definitions_used(STAGES[stage])}
    assert set(names.split()) <= used
    assert not set(others.split()) & used


def test_reworded_comments_docstrings_and_annotations_change_nothing(copied):
    for file in (copied / "data_prep").rglob("*.py"):
        text = file.read_text("utf-8")
        text = re.sub(r'"""[A-Z][^"]*"""', '"""Says it in other words."""', text)
        text = re.sub(r"(?m)^( *)(def |class |return )", r"\1# a comment\n\n\1\2", text)
        file.write_text(re.sub(r"\) -> [^:\n]+:\n", ") -> object:\n", text), "utf-8")
    assert changed_stages(copied) == []


def test_moved_module_and_moved_function_change_nothing(copied):
    room = copied / "data_prep" / "rhythm"
    room.mkdir()
    (room / "__init__.py").touch()
    shutil.move(copied / "data_prep/midi_to_abc/quantize.py", room)
    change(room / "quantize.py", r"from \.(\w+) import", r"from ..midi_to_abc.\1 import")
    for file in (copied / "data_prep/midi_to_abc").glob("*.py"):
        text = file.read_text("utf-8")
        file.write_text(text.replace("from .quantize import", "from ..rhythm.quantize import"))
    rows = copied / "data_prep" / "tune_rows.py"
    (function,) = re.findall(r"def without_dropped.*?\n\n\n", rows.read_text("utf-8"), re.DOTALL)
    rows.write_text(
        rows.read_text("utf-8")
        .replace(function, "")
        .replace("from .settings", "from .kept_rows import without_dropped\nfrom .settings")
    )
    imports = "import numpy as np\nimport pyarrow.compute as pc\nfrom datasets import Dataset\n"
    (copied / "data_prep" / "kept_rows.py").write_text(f"{imports}\n\n{function}")
    assert changed_stages(copied) == []


def test_changed_constant_of_the_quantiser_changes_the_conversion_alone(copied):
    change(
        copied / "data_prep/midi_to_abc/quantize.py",
        r"_PHASE_ATTACKS = (\d+)",
        r"_PHASE_ATTACKS = 1\1",
    )
    assert changed_stages(copied) == ["1_abc"]


def test_changed_tokenizer_changes_the_tokens_alone(copied):
    change(copied / "data_prep/tokens/tokenizers.py", r"_CHAR64_SIZE = ", r"\g<0>1 + ")
    assert changed_stages(copied) == ["5_tokens"]


def test_changed_reader_of_tunes_changes_all_that_read_tunes(copied):
    change(copied / "data_prep/dialect/tune_parser.py", r"MAX_VOICE_BARS = ", r"\g<0>1 + ")
    assert changed_stages(copied) == ["2_clean", "3_filtered", "5_tokens"]


REASONS = "data_prep/storage/drop_reasons.py"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"    # cleaning\n", '    TOO_LOUD = "too_loud"\n'),  # a further reason
        (r'"no track contains a note"', '"silence"'),  # a line of help
    ],
)
def test_further_reasons_to_drop_and_reworded_help_change_nothing(copied, pattern, text):
    change(copied / REASONS, pattern, text)
    assert changed_stages(copied) == []


@pytest.mark.parametrize(
    ("reason", "stages"),
    [("no_notes", ["1_abc"]), ("silent", ["2_clean", "3_filtered"]), ("duplicate", ["3_filtered"])],
)
def test_reason_that_is_written_otherwise_changes_the_stages_that_give_it(copied, reason, stages):
    change(copied / REASONS, f'"{reason}"', f'"{reason}_"')
    assert changed_stages(copied) == stages


def test_wording_of_a_full_disk_changes_nothing(copied):
    change(copied / "data_prep/storage/explain.py", "no space left", "nothing left")
    assert changed_stages(copied) == []


# ---------------------------------------------------------------- what is followed

MAIN = """
from typing import TYPE_CHECKING
from .other import Base, mark as marked, unused

if TYPE_CHECKING:
    from .nowhere import Word

TABLE = {"a": lambda: step()}
TABLE.update(b=None)

def step(): return 1

@marked
def start(x: Word) -> Word:
    from .late import late
    return TABLE[x](), Child().run(), late

class Child(Base):
    size: int = 3

    def run(self): return self.size
"""
OTHER = """
LEAST = 2

class Base:
    def least(self): return LEAST

def mark(function): return function

def unused(): return 5
"""


@pytest.fixture
def small(tmp_path):
    folder = tmp_path / "data_prep"
    folder.mkdir()
    for name, text in {"main": MAIN, "other": OTHER, "late": "late = 7"}.items():
        (folder / f"{name}.py").write_text(text)
    return tmp_path


def of_start(project):
    return digest_of([("data_prep.main", "start")], project)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("other", "LEAST = 2", "LEAST = 3"),  # used by a base class
        ("other", "return function", "return None"),  # a decorator, under another name
        ("late", "7", "8"),  # imported in the function
        ("main", "return 1", "return 2"),  # reached by a table
        ("main", "b=None", "b=1"),  # changes the table
        ("main", "size: int = 3", "size: int = 4"),
        ("main", "size: int = 3", "size = 3"),  # no field of a dataclass any more
    ],
)
def test_change_of_what_is_used_is_seen(small, tmp_path, file, old, new):
    other = tmp_path / "other"
    shutil.copytree(small / "data_prep", other / "data_prep")
    change(other / "data_prep" / f"{file}.py", re.escape(old), new)
    assert of_start(other) != of_start(small)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("other", "return 5", "return 6"),
        ("main", "x: Word", "x"),
        ("main", "size: int", "size: float"),
        ("main", "def run(self):", 'def run(self):\n        """Runs."""\n       '),
    ],
)
def test_change_of_what_is_not_used_is_not(small, tmp_path, file, old, new):
    other = tmp_path / "other"
    shutil.copytree(small / "data_prep", other / "data_prep")
    change(other / "data_prep" / f"{file}.py", re.escape(old), new)
    assert of_start(other) == of_start(small)


def test_which_of_two_functions_of_one_name_is_meant_counts(small):
    first = small / "data_prep/main.py"
    (small / "data_prep/a.py").write_text("def f(): return 1\ndef g(): return f()")
    (small / "data_prep/b.py").write_text("def f(): return 2\ndef h(): return f()")
    text = (
        "from .a import g\nfrom .b import h\nfrom .{} import f\ndef start(): return f(), g(), h()"
    )
    first.write_text(text.format("a"))
    other = small / "other"
    shutil.copytree(small / "data_prep", other / "data_prep")
    (other / "data_prep/main.py").write_text(text.format("b"))
    assert of_start(other) != of_start(small)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from .other import *\ndef start(): return LEAST", "imports *"),
        ("from . import other\ndef start(): return other.LEAST", "which is a module"),
        ("import data_prep.other\ndef start(): return data_prep.other.LEAST", "which is a module"),
        ("from .other import least\ndef start(): return least", "is not there"),
        ("def begin(): return 1", "defines no start"),
    ],
)
def test_what_cannot_be_followed_is_refused(small, text, message):
    (small / "data_prep/main.py").write_text(text)
    (small / "data_prep/__init__.py").touch()
    with pytest.raises(ValueError, match=re.escape(message)):
        of_start(small)


def test_packages_that_are_followed_are_those_of_the_project():
    assert set(PACKAGES) == set(ALL_PACKAGES) - {"model_cards"}
