"""The MCP server, asked by the package's own client over standard input and output."""

import base64
import os
import sys
from pathlib import Path

import pytest
from tiny_models import save_filling_model

from data_prep.dialect.tune import print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi_to_abc.converter import midi_to_abc
from evaluation.judging.judge_table import JUDGES
from modeling.plan_abc import read_bars

mcp = pytest.importorskip("mcp", reason="needs pip install --editable '.[mcp]'")

from evaluation.serving.mcp_server import build_server  # noqa: E402  (these need mcp)
from evaluation.serving.tools import MOST_CHARS, Desk  # noqa: E402

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
CHORALE, TRIO = DATA / "bach_bwv269.mid", DATA / "scores" / "trio.musicxml"
HEAD = "X:1\nM:4/4\nL:1/16\nQ:1/4=120\n%%MIDI chordattack 0\nK:C\nV:1\n%%MIDI program 0\n"
TUNE = HEAD + "[V:1]C16-|\n[V:1]C8D8|\n[V:1]E16|\n[V:1]F4G4A4B4|\n[V:1]c16|]\n"
WALTZ_OF_OTHERS = 'X:7\nT:Waltz\nM:3/4\nL:1/4\nK:Gm\n"Gm"G B d | ~d2 c | w3\n'


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a tiny GPT with random weights, whose tokenizer can fill in."""
    return save_filling_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder that clients may use, beside one that they may not, with ways between them."""
    place = tmp_path_factory.mktemp("files")
    allowed, secret = place / "allowed", place / "secret"
    for folder in (allowed, secret):
        folder.mkdir()
        (folder / "chorale.mid").write_bytes(CHORALE.read_bytes())
    (allowed / "trio.musicxml").write_bytes(TRIO.read_bytes())
    (allowed / "way_out").symlink_to(secret)
    (allowed / "link.mid").symlink_to(secret / "chorale.mid")
    (allowed / "inside.mid").symlink_to(allowed / "chorale.mid")
    os.mkfifo(allowed / "pipe.mid")
    (allowed / "large.mid").write_bytes(b"")
    os.truncate(allowed / "large.mid", 9_000_000)
    return allowed


@pytest.fixture(scope="module")
async def client(anyio_backend, model, files):
    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "evaluation.serving", str(model), "--files", str(files), "--seconds", "900"],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
    )
    async with mcp.Client(mcp.stdio_client(server)) as connected:
        yield connected


async def ask(client, name, **arguments):
    answer = await client.call_tool(name, arguments)
    assert not answer.is_error, answer.content[0].text
    return answer.structured_content


async def complaint(client, name, **arguments):
    """The one line with which a call fails."""
    answer = await client.call_tool(name, arguments)
    assert answer.is_error, answer.structured_content
    (line,) = answer.content[0].text.splitlines()
    return line


@pytest.mark.anyio
async def test_tools_are_listed_with_a_description_and_a_range_for_each_argument(client):
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {
        *("write_tune", "continue_tune", "fill_bars", "accompany", "convert_midi", "check_abc")
    }
    for tool in tools.values():
        assert tool.description
        assert tool.output_schema["properties"]
        assert tool.input_schema["additionalProperties"] is False
        for name, argument in tool.input_schema["properties"].items():
            kinds = argument.get("anyOf", [argument])
            bounds = {"maxLength", "maximum", "exclusiveMaximum", "maxItems", "enum"}
            is_bounded = all(
                kind["type"] in ("boolean", "null") or bounds & kind.keys() for kind in kinds
            )
            assert is_bounded, f"{tool.name}: {name}"


@pytest.mark.anyio
async def test_a_tune_is_written_as_asked_and_again_with_its_seed(client, files):
    asked = {"meter": "3/4", "key": "Bb", "tempo": 90, "instruments": ["Violin", "drums"]}
    asked["max_tokens"] = 400
    first = await ask(client, "write_tune", **asked, save_as="first", with_midi=True)
    again = await ask(client, "write_tune", **asked, seed=first["seed"])
    assert first["abc"] == again["abc"]
    assert "\nM:3/4\nL:1/16\nQ:1/4=90\n" in first["abc"]
    assert "\nK:Bb\nV:1\n%%MIDI program 40\n" in first["abc"]
    assert first["n_voices"] == 2
    assert first["n_bars"] == parse_tune(first["abc"]).n_bars > 0
    assert first["files"] == ["first.abc", "first.mid"]
    assert (files / "first.abc").read_text() == first["abc"]
    midi = (files / "first.mid").read_bytes()
    assert base64.b64decode(first["midi_base64"]) == midi
    assert midi_to_abc(midi).startswith("X:1\nM:")
    assert again["midi_base64"] is None
    assert again["files"] == []
    line = await complaint(client, "write_tune", save_as="first")
    assert line == "'first.abc' exists already; choose another name"


def bars(abc):
    """The tune, bar by bar."""
    return read_bars(print_tune(parse_tune(abc)))


@pytest.mark.anyio
async def test_continued_tunes_begin_with_the_bars_that_were_given(client):
    for kept in (2, None):
        asked = {"bars": kept, "seed": 1, "max_tokens": 400}
        tune = bars((await ask(client, "continue_tune", abc=TUNE, **asked))["abc"])
        given = [line.replace("|]", "|") for line in bars(TUNE).lines[:kept]]
        assert list(tune.lines[: len(given)]) == given
        assert len(tune.lines) > len(given)
    line = await complaint(client, "continue_tune", abc=TUNE, bars=9)
    assert line == "bars is 9, but the tune has 5"


@pytest.mark.anyio
async def test_filled_tunes_keep_all_other_bars(client):
    given = bars(TUNE)
    filled = bars((await ask(client, "fill_bars", abc=TUNE, first_bar=3, last_bar=4))["abc"])
    assert filled.ticks == given.ticks
    assert (filled.lines[:2], filled.lines[4:]) == (given.lines[:2], given.lines[4:])
    assert "at most 5" in await complaint(client, "fill_bars", abc=TUNE, first_bar=5, last_bar=6)
    line = await complaint(client, "fill_bars", abc=TUNE, first_bar=1, last_bar=999)
    assert line == "expected at most 64 bars from first_bar to last_bar"


@pytest.mark.anyio
async def test_accompanied_tunes_keep_their_voices_also_those_of_others(client):
    for abc in (TUNE, WALTZ_OF_OTHERS):
        asked = {"instruments": ["Acoustic Bass"], "seed": 1}
        tune = await ask(client, "accompany", abc=abc, **asked)
        assert tune["n_voices"] == 2
        given = (await ask(client, "convert_midi", **in_base64(abc.encode(), ".abc")))["abc"]
        first_voice = given.split("V:1\n")[1].rstrip("|]\n")
        assert first_voice in tune["abc"]


def in_base64(content, suffix):
    return {"content_base64": base64.b64encode(content).decode(), "suffix": suffix}


@pytest.mark.anyio
async def test_files_and_bytes_are_converted(client):
    chorale = print_tune(parse_tune(midi_to_abc(CHORALE.read_bytes())), "voices")
    assert (await ask(client, "convert_midi", file="chorale.mid"))["abc"] == chorale
    given = in_base64(CHORALE.read_bytes(), ".mid")
    assert (await ask(client, "convert_midi", **given))["abc"] == chorale
    trio = await ask(client, "convert_midi", file="trio.musicxml")
    assert trio["n_voices"] == 4
    book = WALTZ_OF_OTHERS + "\n" + WALTZ_OF_OTHERS
    found = await ask(client, "convert_midi", **in_base64(book.encode(), ".abc"))
    assert found["remarks"][-1] == "the first of 2 tunes was read"


@pytest.mark.anyio
async def test_a_check_names_wrong_bars_and_what_is_left_out(client):
    good = await ask(client, "check_abc", abc=TUNE)
    assert good == {
        "is_valid": True,
        "problems": [],
        "warnings": [],
        "readers": None,
        "complaints": [],
    }
    wrong = await ask(client, "check_abc", abc=TUNE.replace("E16", "E14"))
    assert not wrong["is_valid"]
    assert wrong["problems"] == ["voice 1, bar 3: 3.5 quarter notes, expected 4"]
    given = {"abc": TUNE.replace("E16", "E14"), "instruments": ["drums"]}
    assert await complaint(client, "accompany", **given) == wrong["problems"][0]
    broken = await ask(client, "check_abc", abc="X:1\nM:4/4\nCDEF|\n")
    assert "expected the header to end in one" in broken["problems"][0]
    assert (await ask(client, "check_abc", abc=WALTZ_OF_OTHERS))["warnings"]


@pytest.mark.anyio
async def test_other_programs_are_asked_about_a_text_unless_it_gives_orders(client):
    asked = await ask(client, "check_abc", abc=TUNE, ask_readers=True)
    assert asked["readers"]["music21"] is True
    assert set(asked["readers"]) == set(JUDGES)
    orders = "X:1\nI:abc-include /etc/passwd\nK:C\nC4|\n"
    asked = await ask(client, "check_abc", abc=orders, ask_readers=True)
    assert set(asked["readers"].values()) == {None}
    assert asked["complaints"] == ["no program was asked: the text has a field I:"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../secret/chorale.mid", "leads out of the folder"),
        ("way_out/../chorale.mid", "leads out of the folder"),
        ("way_out/chorale.mid", "links are not followed"),
        ("link.mid", "links are not followed"),
        ("inside.mid", "links are not followed"),
        ("chorale.mid/x.mid", "links are not followed"),
        ("pipe.mid", "is no plain file"),
        ("large.mid", "9,000,000 bytes, limit 8,000,000"),
        ("none.mid", "no such file or directory"),
        ("chorale\0.mid", "null"),
        ("first.txt", "expected a name ending in .mid"),
        ("", "expected a name ending in .mid"),
    ],
)
async def test_no_name_leads_out_of_the_folder(client, files, name, said):
    for given in (name, str(files / name)) if name == "link.mid" else (name,):
        line = await complaint(client, "convert_midi", file=given)
        assert said in line or "leads out" in line


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["../secret/new", "way_out/new", "/tmp/new", "new/../new", ""])
async def test_nothing_is_written_outside_the_folder(client, files, name):
    before = sorted(files.parent.rglob("*"))
    await complaint(client, "convert_midi", file="trio.musicxml", save_as=name)
    await complaint(client, "write_tune", save_as=name)
    assert sorted(files.parent.rglob("*")) == before


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("write_tune", {"temperature": 9}, "temperature: Input should be less than or equal to 2"),
        ("write_tune", {"tempo": "fast"}, "tempo: Input should be a valid number"),
        ("write_tune", {"seed": 10**400}, "seed: "),
        ("write_tune", {"max_tokens": 10**9}, "max_tokens: "),
        ("write_tune", {"mood": "sad"}, "mood: Extra inputs are not permitted"),
        ("write_tune", {"meter": "3/4\nK:C"}, "expected one such as 4/4"),
        ("write_tune", {"key": "H"}, "key: Input should be 'Gb'"),
        ("write_tune", {"instruments": ["drums"] * 16}, "instruments: List should have at most 15"),
        ("write_tune", {"instruments": ["nose flute"]}, "the nearest is 'pan flute'"),
        ("write_tune", {"max_tokens": 64}, "64"),
        ("fill_bars", {"abc": TUNE}, "first_bar: Field required"),
        ("check_abc", {"abc": "X" * 5_000_000}, f"abc: String should have at most {MOST_CHARS}"),
        ("continue_tune", {"abc": "X:1\nK:C\n" + "C99999999" * 99 + "|"}, ""),
        ("continue_tune", {"abc": "\0\1\2"}, "no K: field"),
        ("accompany", {"abc": TUNE, "instruments": [{"a": 1}]}, "instruments.0.int: "),
        ("convert_midi", {}, "expected either file or content_base64"),
        ("convert_midi", {"content_base64": "no base64!"}, "content_base64 is not base64: "),
        ("convert_midi", {"content_base64": "AAAA"}, "not_midi: "),
        ("convert_midi", {"content_base64": "AAAA", "suffix": ".mxl"}, ""),
        ("convert_midi", {"content_base64": "AAAA", "suffix": ".exe"}, "suffix: "),
        ("convert_midi", {"content_base64": "A" * 2_000_000}, "content_base64: "),
        ("play_tune", {}, "no tool 'play_tune'; expected one of write_tune, "),
    ],
)
async def test_hostile_arguments_are_one_line_each(client, tool, arguments, said):
    line = await complaint(client, tool, **arguments)
    assert said in line
    assert len(line) < 500


@pytest.mark.anyio
async def test_without_a_folder_no_file_is_read_or_written(tmp_path):
    async with mcp.Client(build_server(Desk(None, None))) as client:
        said = "no files: the server was started without a folder for them (--files)"
        assert await complaint(client, "convert_midi", file="chorale.mid") == said
        assert await complaint(client, "write_tune", save_as="new") == said
        for tool in (await client.list_tools()).tools:
            assert tool.annotations.read_only_hint is True
