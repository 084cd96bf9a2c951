"""What all errors of this project have in common, whatever package raises them."""

import ast
import importlib
import inspect
import pickle
import re
from pathlib import Path

import pytest

from data_prep.storage.drop_reasons import DropReason
from data_prep.storage.explain import explain
from scaling.writing.commands import command

ROOT = Path(__file__).parent.parent
PACKAGES = ("data_prep", "modeling", "training", "scaling", "evaluation", "model_cards")
SAMPLES = {
    "str": "what was found",
    "int": 7,
    "DropReason": DropReason.SILENT,
    "OSError": OSError(28, "No space left on device"),
}


def own_errors() -> list[str]:
    """Names, with their modules, of the exception classes in the source."""
    return [
        f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}:{node.name}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases)
    ]


@pytest.mark.parametrize("name", own_errors())
def test_errors_survive_the_way_between_processes(name):
    module, name = name.split(":")
    error = getattr(importlib.import_module(module), name)
    own = "__init__" in vars(error)
    parameters = inspect.signature(error).parameters.values() if own else ()
    made = error(
        *(
            [SAMPLES[inspect.formatannotation(p.annotation).split(".")[-1]] for p in parameters]
            or ["what was found"]
        )
    )
    back = pickle.loads(pickle.dumps(made))
    assert type(back) is error
    assert str(back) == str(made)
    assert repr(vars(back)) == repr(vars(made))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("\n  first\nsecond"), "first"),
        (ValueError(), "ValueError"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_errors_are_told_in_one_line_also_those_that_say_nothing(error, said):
    assert explain(error) == said


def test_commands_that_go_on_say_so_when_they_are_interrupted_and_others_end_as_ever(capsys):
    def stop(_):
        raise KeyboardInterrupt

    def fail(_):
        raise ValueError("first\nsecond")

    assert command(ValueError, interrupted="the same command goes on")(stop)([]) == 130
    assert capsys.readouterr().err == "\nthe same command goes on\n"
    with pytest.raises(KeyboardInterrupt):
        command(ValueError)(stop)([])
    assert command(ValueError, say=explain)(fail)([]) == 2
    assert capsys.readouterr().err == "error: first\n"


def test_nobody_takes_the_first_line_of_an_error_that_may_have_none():
    unsafe = re.compile(r"str\(err(or)?\)(\.strip\(\))?\.splitlines\(\)\[0\]")
    for package in (*PACKAGES, "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            assert not unsafe.search(path.read_text("utf-8")), path
