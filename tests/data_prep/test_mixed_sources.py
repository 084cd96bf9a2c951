"""Sources of other kinds than MIDI, nested and odd ones, and what is passed over."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_prep.collections.contents import MOST_ARCHIVES
from data_prep.collections.passed_over import PassedOverFiles, told
from data_prep.collections.sources import SourceError, open_source
from data_prep.convert import convert_collection
from data_prep.importers.kinds import KINDS, kind_of
from data_prep.midi.limits import MidiError

REPORTED = Path(__file__).parent.parent / "data" / "reported"
SILENT = REPORTED / "passed-over-in-silence"
BOOK = "%%MIDI program 73\nM:3/4\n\nX:1\nT:One\nK:C\nCDE|\n\nX:7\nK:G\nGAB|\n\nX:1\nK:D\nDEF|\n"
SCORE = "<score-partwise version='4.0'><part-list/></score-partwise>"


def look(path, root):
    """Names and contents (or drop reasons) in a source, and the names that are passed over."""
    files = PassedOverFiles()
    source = open_source(str(path), root)
    members = source.members(files)
    found = {m.name: str(c) if isinstance(c, MidiError) else c for m, c in source.read(members)}
    assert [*found] == [member.name for member in members]
    return found, {kind: about["first"] for kind, about in files.by_kind().items()}


def zipped(*files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return out.getvalue()


def tarred(*files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def tunes(tune_files):
    return [file.read_bytes() for file in tune_files[:4]]


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    return folder


def test_each_suffix_has_one_kind_whatever_its_case_and_compression():
    suffixes = [suffix for kind in KINDS for suffix in kind.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    for kind in KINDS:
        for suffix in kind.suffixes:
            for name in (f"a/B{suffix.upper()}", f"x.zip/a b{suffix}.gz", f"x{suffix}.xz"):
                assert kind_of(name) is kind
    assert kind_of("a/book.abc#X12-2").name == "ABC"
    assert [kind_of(name) for name in ("a", "a.pdf", "._a.mid", "a.mid/b", "mid")] == [None] * 5


# ---------------------------------------------------------------- reported inputs


def test_compressed_files_are_read_and_what_is_not_is_named(tmp_path):
    found, passed_over = look(SILENT / "gz", tmp_path)
    assert [*found] == [f"g{n}.mid.gz" for n in range(4)] + ["old.smf", "x.mid"]
    assert all(content.startswith(b"MThd") for content in found.values())
    assert passed_over == {
        "empty archive": ["archive.tar.bz2", "archive.tar.xz"],
        **{"no suffix": ["noext"], ".7z": ["pack.7z"], ".rar": ["pack.rar"]},
    }


def test_nested_archives_are_read(tmp_path):
    found, _ = look(SILENT / "nested_only.zip", tmp_path)
    assert {name.split("/")[0] for name in found} == {"part1.zip", "part2.zip"}
    found, _ = look(SILENT / "nested_folder", tmp_path)
    assert "b.mid" in found
    assert {name.rpartition("/")[0] for name in found} == {"", "collection.zip/part1.zip"}
    assert all(content.startswith(b"MThd") for content in found.values())


LEAD_OUT = ["../../etc/x.mid", "/abs.mid", "C: Prelude.mid", "J:Bach.mid", "dir/../up.mid"]


@pytest.mark.parametrize(
    ("name", "bad"),
    [("names.zip", LEAD_OUT), ("hard.tar.gz", ["forhard/orig.mid", "forhard/zlink.mid"])],
)
def test_reported_members_that_cannot_be_read_are_one_row_each(tmp_path, name, bad):
    out = tmp_path / "out"
    source = open_source(str(REPORTED / "unreadable-member" / name), tmp_path)
    converted = convert_collection([source], out, workers=1)
    rows = [row for shard in converted.shards for row in pq.read_table(shard).to_pylist()]
    assert len(rows) == len(source.members())
    assert [row["path"] for row in rows if row["drop_reason"] == "unreadable_member"] == bad
    assert all(row["abc"] for row in rows if row["path"] not in bad)


def test_reported_names_that_are_not_utf8_are_read(tmp_path):
    found, _ = look(REPORTED / "passing" / "sjis.zip", tmp_path)
    assert len(found) == 2
    assert all(content.startswith(b"MThd") for content in found.values())


# ---------------------------------------------------------------- single files, archives


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)]
)
def test_compressed_files_are_read_in_folders_and_archives(
    music, tmp_path, tunes, suffix, compress
):
    packed = compress(tunes[0])
    (music / f"a.mid{suffix}").write_bytes(packed)
    (music / f"b.abc{suffix}").write_bytes(compress(BOOK.encode()))
    (music / f"c.xml{suffix}").write_bytes(compress(b"<html/>"))
    (music / f"cut.mid{suffix}").write_bytes(packed[:-30])
    (music / f"t.tar{suffix}").write_bytes(compress(tarred(("t.mid", tunes[1]))))
    (music / "z.zip").write_bytes(zipped((f"in.mid{suffix}", packed), ("plain.mid.gz", tunes[2])))
    found, passed_over = look(music, tmp_path)
    assert found[f"a.mid{suffix}"] == found[f"z.zip/in.mid{suffix}"] == tunes[0]
    assert found[f"t.tar{suffix}/t.mid"] == tunes[1]
    assert found["z.zip/plain.mid.gz"] == tunes[2]
    assert found[f"cut.mid{suffix}"].startswith("unreadable_member: ")
    assert sum(name.startswith(f"b.abc{suffix}#X") for name in found) == 3
    assert passed_over == {suffix: [f"c.xml{suffix}"]}


def test_a_single_file_is_a_source(tmp_path, tunes):
    for name, content in [
        ("a.mid", tunes[0]),
        ("b.abc", BOOK.encode()),
        ("c.b.xml", SCORE.encode()),
    ]:
        (tmp_path / name).write_bytes(content)
    assert look(tmp_path / "a.mid", tmp_path)[0] == {"a.mid": tunes[0]}
    assert [*look(tmp_path / "b.abc", tmp_path)[0]] == ["b.abc#X1", "b.abc#X7", "b.abc#X1-2"]
    assert open_source(str(tmp_path / "c.b.xml"), tmp_path).name == "c.b"
    (tmp_path / "d.txt").write_text("MThd")
    with pytest.raises(SourceError, match=r"d\.txt is no folder, archive"):
        open_source(str(tmp_path / "d.txt"), tmp_path).members()


def test_source_without_music_names_what_is_there(music, tmp_path):
    (music / "a.rar").touch()
    (music / "b.xml").write_text("<html/>")
    with pytest.raises(
        SourceError, match=r"no music, .*\.mid.*; passed over: 1 \.rar \(a\.rar\), 1 \.xml"
    ):
        look(music, tmp_path)


def test_damaged_archive_inside_an_archive_is_one_row_and_the_others_are_read(tmp_path, tunes):
    good = zipped(("1.mid", tunes[0]), ("2.mid", tunes[1]))
    tar = gzip.compress(tarred(*((f"{n}.mid", os.urandom(3000)) for n in range(20))))
    files = [("a.zip", good[:-30]), ("b.zip", good), ("c.tgz", tar[:-3000]), ("d.mid", tunes[2])]
    for name, content in [("x.zip", zipped(*files)), ("x.tar", tarred(*files))]:
        (tmp_path / name).write_bytes(content)
        found, _ = look(tmp_path / name, tmp_path)
        assert [*found] == ["a.zip", "b.zip/1.mid", "b.zip/2.mid", "c.tgz", "d.mid"]
        assert found["a.zip"].startswith("unreadable_member: ")
        assert found["c.tgz"].startswith("unreadable_member: ")
        assert found["b.zip/2.mid"] == tunes[1]


def test_bombs_of_archives_in_archives_cost_one_row_each_and_little_memory(tmp_path, tunes):
    zeros = bytes(7_000_000)
    wide = zipped(*((f"{n}.mid", zeros) for n in range(40)))  # 280 MB
    deep = zipped(("zeros.bin", bytes(150_000_000)), ("a.mid", tunes[0]))
    packed = [(f"{n:02d}.mid.gz", gzip.compress(zeros)) for n in range(20)]
    files = [("a.zip", wide), *packed, ("c.tgz", gzip.compress(tarred(("z", bytes(130_000_000)))))]
    (tmp_path / "x.zip").write_bytes(zipped(*files, ("b.zip", deep), ("ok.mid", tunes[1])))
    del wide, deep, files
    tracemalloc.start()
    found, _ = look(tmp_path / "x.zip", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "would expand to more than 500 times its size" in found["a.zip"]
    assert "would expand" in found["c.tgz"]
    assert "would expand" in found["19.mid.gz"]
    assert found["ok.mid"] == tunes[1]
    assert peak < 250_000_000


def test_archives_deeper_than_two_are_named(music, tmp_path, tunes):
    content = tunes[0]
    for depth in range(4):
        content = zipped((f"{depth}.mid", tunes[depth]), (f"{depth}.zip", content))
    (music / "top.zip").write_bytes(content)
    found, passed_over = look(music, tmp_path)
    assert MOST_ARCHIVES == 2
    assert found == {"top.zip/3.mid": tunes[3], "top.zip/3.zip/2.mid": tunes[2]}
    assert passed_over == {"third archive": ["top.zip/3.zip/2.zip"]}


def test_archive_that_changed_after_it_was_listed_is_an_error(tmp_path, tunes):
    path = tmp_path / "x.zip"
    path.write_bytes(zipped(("a.zip", zipped(("1.mid", tunes[0]))), ("2.mid", tunes[1])))
    source = open_source(str(path), tmp_path)
    members = source.members()
    path.write_bytes(zipped(("2.mid", tunes[1])))
    with pytest.raises(SourceError, match="changed while it was read"):
        list(source.read(members))


# ---------------------------------------------------------------- books


def test_each_tune_of_a_book_has_a_name_and_the_fields_of_its_file(music, tmp_path):
    (music / "b.abc").write_text(BOOK)
    (music / "one.abc").write_bytes(b"\xef\xbb\xbfX:5\r\nK:C\r\nCDE|\r\n")
    (music / "empty.abc").touch()
    (music / "nowhere.abc").symlink_to("missing")
    found, _ = look(music, tmp_path)
    names = ["b.abc#X1", "b.abc#X7", "b.abc#X1-2", "empty.abc", "nowhere.abc", "one.abc"]
    assert [*found] == names
    assert found["b.abc#X7"] == b"%%MIDI program 73\nM:3/4\nX:7\nK:G\nGAB|\n\n"
    assert found["one.abc"] == b"X:5\nK:C\nCDE|\n"
    assert found["nowhere.abc"].startswith("unreadable_member: No such file")


def test_tune_of_a_book_is_read_alone(music, tmp_path):
    (music / "b.abc").write_text(BOOK)
    source = open_source(str(music), tmp_path)
    members = source.members()
    assert next(content for _, content in source.read(members[2:])).endswith(b"X:1\nK:D\nDEF|\n")


# ---------------------------------------------------------------- links, names


def test_linked_folders_are_followed_once_and_loops_end(music, tmp_path, tunes):
    real = music / "m_real"
    real.mkdir()
    (real / "a.mid").write_bytes(tunes[0])
    (music / "a_link").symlink_to("m_real")  # also reached directly
    (real / "loop").symlink_to("..")
    (music / "self").symlink_to(".")
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "b.mid").write_bytes(tunes[1])
    (outside / "back").symlink_to(music)
    (music / "n_link").symlink_to(outside)
    (music / "o_link").symlink_to(outside)  # the same again
    (music / "dead").symlink_to("missing")
    (music / "ring.mid").symlink_to("ring.mid")
    found, passed_over = look(music, tmp_path)
    assert [*found] == ["m_real/a.mid", "n_link/deep/b.mid", "ring.mid"]
    assert found["ring.mid"].startswith("unreadable_member: ")
    assert passed_over == {"no suffix": ["dead"]}


@pytest.mark.parametrize(
    "name",
    ["Tom's songs", "2020", "-dash", "a$b", "日本", "a\nb", 'q"q', "[x]*?", "x.y", " ", "#1"],
)
def test_any_folder_name_names_a_dataset(tmp_path, tunes, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "a.mid").write_bytes(tunes[0])
    source = open_source(str(folder), tmp_path)
    assert source.name == name
    assert dict(look(folder, tmp_path)[0]) == {"a.mid": tunes[0]}


# ---------------------------------------------------------------- what is passed over


def test_passed_over_files_are_counted_by_kind_and_the_first_five_named(music, tmp_path, tunes):
    (music / "a.mid").write_bytes(tunes[0])
    for n in range(7):
        (music / f"{n}.pdf").touch()
    for name in ("x.RAR", "notes.mscz", "._a.mid", "Op.1 by me", "page.xml", "line\nbreak.txt"):
        (music / name).write_text("<html>")
    (music / "z.zip").write_bytes(zipped(("inside.txt", b""), ("b.mid", tunes[1])))
    files = PassedOverFiles()
    assert len(open_source(str(music), tmp_path).members(files)) == 2
    assert told(files.by_kind()) == (
        "passed over: 1 .mscz (notes.mscz), 1 .rar (x.RAR), "
        "7 .pdf (0.pdf, 1.pdf, 2.pdf, 3.pdf, 4.pdf, ...), 2 .txt (line\\nbreak.txt, "
        "z.zip/inside.txt), 1 .xml (page.xml), 1 no suffix (Op.1 by me), "
        "1 resource fork of macOS (._a.mid)"
    )
    assert told({}) == ""
