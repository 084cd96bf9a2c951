import gzip
import hashlib
import http.server
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import urllib.parse
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.collections.download import DownloadError, download
from data_prep.collections.passed_over import PassedOverFiles
from data_prep.collections.sources import SourceError, open_source
from data_prep.midi.limits import LIMITS, MidiError


def read(path, root):
    source = open_source(str(path), root)
    return {member.name: content for member, content in source.read(source.members())}


def reasons(path, root):
    found = read(path, root)
    return {name: c.reason if isinstance(c, MidiError) else len(c) for name, c in found.items()}


def passed_over(path, root):
    """Kind -> the first files that are not taken."""
    files = PassedOverFiles()
    open_source(str(path), root).members(files)
    return {kind: about["first"] for kind, about in files.by_kind().items()}


def tar_of(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for info, content in files:
            info = tarfile.TarInfo(info) if isinstance(info, str) else info
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zip_of(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


def tar_info(name, kind, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, "/etc/hostname", size
    return info


def test_archives_in_a_folder_are_read_two_levels_deep_in_sorted_order(tmp_path, tune_files):
    tunes = [file.read_bytes() for file in tune_files[:6]]
    music = tmp_path / "music"
    (music / "b").mkdir(parents=True)
    (music / "z.mid").write_bytes(tunes[0])
    (music / "b" / "a.mid").write_bytes(tunes[1])
    third = zip_of(tmp_path / "third.zip", [("deepest.mid", tunes[4])]).read_bytes()
    inner = zip_of(tmp_path / "inner.zip", [("deep.mid", tunes[5]), ("3.zip", third)]).read_bytes()
    zip_of(music / "c.zip", [("2.mid", tunes[3]), ("1.mid", tunes[2]), ("inner.zip", inner)])
    tar_of(music / "a.tgz", [("t.mid", tunes[4])])
    found = read(music, tmp_path)
    assert list(found) == [
        *("a.tgz/t.mid", "b/a.mid", "c.zip/1.mid", "c.zip/2.mid", "c.zip/inner.zip/deep.mid"),
        "z.mid",
    ]
    assert list(found.values()) == [tunes[n] for n in (4, 1, 2, 3, 5, 0)]
    assert passed_over(music, tmp_path) == {"third archive": ["c.zip/inner.zip/3.zip"]}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars_of_all_compressions_are_read(tmp_path, tune_files, mode):
    content = tune_files[0].read_bytes()
    tar_of(tmp_path / "a.tar", [("x.mid", content), ("y.mid", content)], mode)
    assert list(read(tmp_path / "a.tar", tmp_path).values()) == [content, content]


def test_names_that_lead_out_links_and_devices_are_refused_one_by_one(tmp_path):
    names = ["../up.mid", "/abs.mid", "a/../../b.mid", "C:\\c.mid", "a\\..\\d.mid"]
    link = zipfile.ZipInfo("link.mid")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    zip_of(tmp_path / "a.zip", [*((name, b"x") for name in names), (link, b"/x"), ("ok.mid", b"x")])
    special = [
        tar_info("hard.mid", tarfile.LNKTYPE),
        tar_info("soft.mid", tarfile.SYMTYPE),
        tar_info("device.mid", tarfile.CHRTYPE),
        tar_info("pipe.mid", tarfile.FIFOTYPE),
    ]
    files = [*((name, b"x") for name in names), *((info, b"") for info in special)]
    tar_of(tmp_path / "a.tar.gz", [*files, ("ok.mid", b"x")])
    for archive, n_bad in (("a.zip", 6), ("a.tar.gz", 9)):
        found = reasons(tmp_path / archive, tmp_path)
        assert found.pop("ok.mid") == 1
        assert list(found.values()) == ["unreadable_member"] * n_bad


def lying_zip(path, method):
    """A member of 100 MB that says it has a thousand bytes."""
    zip_of(path, [("bomb.mid", bytes(100_000_000)), ("ok.mid", b"x")], method)
    content = path.read_bytes()
    size = (100_000_000).to_bytes(4, "little")
    path.write_bytes(content.replace(size, (1000).to_bytes(4, "little")))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_bombs_do_not_eat_memory(tmp_path, method):
    zip_of(tmp_path / "a.zip", [("bomb.mid", bytes(100_000_000)), ("ok.mid", b"x")], method)
    lying_zip(tmp_path / "b.zip", method)
    tracemalloc.start()
    honest, lying = (reasons(tmp_path / name, tmp_path) for name in ("a.zip", "b.zip"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(honest["bomb.mid"], str)
    assert lying["ok.mid"] == (1 if method == zipfile.ZIP_DEFLATED else "unreadable_member")
    assert lying["bomb.mid"] == "unreadable_member"
    assert peak < 50_000_000


def test_tar_bombs_do_not_eat_memory(tmp_path):
    tar_of(tmp_path / "a.tar.gz", [("bomb.mid", bytes(100_000_000)), ("ok.mid", b"x")])
    tar_of(tmp_path / "b.tar.gz", [(tar_info("h", tarfile.XHDTYPE), bytes(100_000_000))])
    tracemalloc.start()
    found = reasons(tmp_path / "a.tar.gz", tmp_path)
    with pytest.raises(SourceError, match="a header of 100"):
        open_source(str(tmp_path / "b.tar.gz"), tmp_path).members()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {"bomb.mid": "too_many_bytes", "ok.mid": 1}
    assert peak < 20_000_000


def test_file_beyond_the_limit_is_not_read_whole(tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    with (music / "large.mid").open("wb") as file:
        file.truncate(10 * LIMITS.bytes)
    (music / "nowhere.mid").symlink_to("missing")
    found = reasons(music, tmp_path)
    assert found == {"large.mid": "too_many_bytes", "nowhere.mid": "unreadable_member"}


def test_encrypted_member_is_refused(tmp_path):
    path = zip_of(tmp_path / "a.zip", [("a.mid", b"x"), ("b.mid", b"y")])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    found = read(path, tmp_path)
    assert str(found["a.mid"]) == "unreadable_member: encrypted"
    assert found["b.mid"] == b"y"


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar", "in_folder"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_archive_that_is_cut_off_is_named_in_one_line(tmp_path, tune_files, name, share):
    files = [(file.name, file.read_bytes()) for file in tune_files]
    folder = tmp_path / "in_folder"
    folder.mkdir()
    path = folder / "a.tgz" if name == "in_folder" else tmp_path / name
    if name == "a.zip":
        zip_of(path, files)
    else:
        tar_of(path, files, "w" if name == "a.tar" else "w:gz")
    content = path.read_bytes()
    stop = int(share * len(content)) if name != "a.tar" else int(share * 30_000) + 100
    path.write_bytes(content[:stop])
    with pytest.raises(SourceError, match=f"{path.name} cannot be read: damaged") as error:
        open_source(str(tmp_path / name), tmp_path).members()
    assert "\n" not in str(error.value)


def test_tar_with_a_damaged_header_in_the_middle_does_not_pass_for_a_short_one(tmp_path):
    path = tar_of(tmp_path / "a.tar", [(f"{n}.mid", b"x") for n in range(9)], "w")
    content = bytearray(path.read_bytes())
    content[4 * 1024 : 4 * 1024 + 20] = b"\xff" * 20
    path.write_bytes(gzip.compress(content))
    with pytest.raises(SourceError, match="cut off after 4 members"):
        open_source(str(path), tmp_path).members()


@pytest.mark.parametrize("nested", [False, True])
def test_table_of_the_hub_gives_its_files(tmp_path, tune_files, nested):
    tunes = [file.read_bytes() for file in tune_files[:40]]
    values = [{"bytes": tune, "path": "x"} for tune in tunes] if nested else tunes
    table = pa.table({"text": ["a"] * 41, "music": [*values, None]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=7)
    source = open_source(str(tmp_path / "t.parquet"), tmp_path)
    members = source.members()
    found = [content for _, content in source.read(members)]
    assert found[:40] == tunes
    assert found[40].reason == "unreadable_member"
    assert [content for _, content in source.read(members[5::9])] == tunes[5::9]
    assert (source.name, members[3].name) == ("t", "00000003")


def test_table_without_bytes_names_its_columns(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"no column of bytes; columns: \['text'\]"):
        open_source(str(tmp_path / "t.parquet"), tmp_path).members()


def test_table_of_other_bytes_is_refused(tmp_path):
    pq.write_table(pa.table({"image": [b"\x89PNG", None]}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"t\.parquet has no column of MIDI bytes.* image "):
        open_source(str(tmp_path / "t.parquet"), tmp_path).members()


def test_column_of_a_table_is_found_by_what_it_holds(tmp_path, tune_files):
    tune = tune_files[0].read_bytes()
    columns = {"bytes": [b"\x89PNG"] * 3, "cover": [b"x"] * 3, "song": [None, b"<html>", tune]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", tmp_path)
    assert [found["00000001"], found["00000002"]] == [b"<html>", tune]


def test_tables_in_a_folder_are_read_and_those_without_midi_are_passed_over(tmp_path, tune_files):
    tunes = [file.read_bytes() for file in tune_files[:3]]
    music = tmp_path / "music"
    (music / "data").mkdir(parents=True)
    pq.write_table(pa.table({"midi": tunes[:2]}), music / "data" / "a.parquet")
    pq.write_table(pa.table({"text": ["a"]}), music / "data" / "b.parquet")
    pq.write_table(pa.table({"image": [b"\x89PNG"]}), music / "c.parquet")
    (music / "z.mid").write_bytes(tunes[2])
    found = read(music, tmp_path)
    names = ["data/a.parquet/00000000", "data/a.parquet/00000001", "z.mid"]
    assert found == dict(zip(names, tunes, strict=True))
    assert passed_over(music, tmp_path) == {".parquet": ["c.parquet", "data/b.parquet"]}


# ---------------------------------------------------------------- download


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`, and breaks off after as many bytes as `server.breaks` says."""

    def do_GET(self):
        server, content = self.server, self.server.content
        start, tag = 0, f'"{hash(content)}"'
        if (span := self.headers.get("Range")) and self.headers.get("If-Range") == tag:
            start = int(span.removeprefix("bytes=").rstrip("-"))
        server.starts.append(start)
        if self.path != "/a.bin":
            self.send_error(404)
            return
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = server.breaks.pop(0) if server.breaks else len(content)
        self.wfile.write(content[start:stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.breaks, server.starts = bytes(range(256)) * 4000, [], []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_broken_download_goes_on_where_it_broke(tmp_path, server, caplog):
    caplog.set_level("INFO")
    server.breaks = [300_000, 700_000]
    target = download(f"{server.url}/a.bin", tmp_path / "d" / "a.bin", wait_seconds=0)
    assert target.read_bytes() == server.content
    assert server.starts == [0, 300_000, 700_000]
    assert [path.name for path in target.parent.iterdir()] == ["a.bin"]
    assert "1,024,000 bytes, sha256 " in caplog.text
    download(f"{server.url}/a.bin", target)
    assert len(server.starts) == 3


def test_download_that_was_given_up_goes_on_in_the_next_call(tmp_path, server):
    server.breaks = [300_000] * 6
    with pytest.raises(DownloadError, match="300,000 bytes are kept"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", wait_seconds=0)
    assert not (tmp_path / "a.bin").exists()
    server.breaks.clear()
    download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == server.content
    assert server.starts[-1] == 300_000


def test_download_of_a_file_that_changed_begins_anew(tmp_path, server):
    server.breaks = [300_000] * 6
    with pytest.raises(DownloadError):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", wait_seconds=0)
    server.breaks.clear()
    server.content = server.content[::-1]
    download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == server.content


def test_download_killed_before_its_last_step_is_finished(tmp_path, server):
    server.breaks = [300_000] * 6
    with pytest.raises(DownloadError):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", wait_seconds=0)
    (tmp_path / "a.bin.part").write_bytes(server.content)
    download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == server.content


def test_missing_file_is_not_asked_for_again(tmp_path, server):
    with pytest.raises(DownloadError, match="404"):
        download(f"{server.url}/b.bin", tmp_path / "b.bin")
    assert len(server.starts) == 1


def test_lakh_is_fetched_by_name_from_where_the_environment_says(
    tmp_path, server, monkeypatch, tune_files
):
    path = tar_of(tmp_path / "x", [("lmd_full/0/a.mid", tune_files[0].read_bytes())])
    server.content = path.read_bytes()
    monkeypatch.setenv("LMD_URL", server.url)
    with pytest.raises(DownloadError, match=r"lmd_full.*HTTP Error 404"):
        open_source("lmd_full", tmp_path)
    monkeypatch.setattr("data_prep.collections.sources.LAKH_FILES", {"lmd_full": "a.bin"})
    monkeypatch.setattr("data_prep.collections.download.LAKH_FILES", {"lmd_full": "a.bin"})
    source = open_source("lmd_full", tmp_path)
    assert (source.name, len(source.members())) == ("lmd_full", 1)


# ---------------------------------------------------------------- the Hub

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_a_token_of_nobody"


class HubServer(http.server.ThreadingHTTPServer):
    request_queue_size = 64  # the Hub's library opens many connections at once


class HubHandler(http.server.BaseHTTPRequestHandler):
    """The dataset u/n as the Hub serves it: its commit, its tree, its files; `g/n` is gated."""

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        self.server.asked.append(url.path)
        self.server.tokens.add(self.headers.get("Authorization"))
        if url.path in ("/api/datasets/u/n", "/api/datasets/u/n/revision/v1"):
            self.answer(json.dumps({"id": "u/n", "sha": COMMIT}).encode())
        elif url.path.startswith("/api/datasets/u/n/revision/"):
            self.refuse(404, "RevisionNotFound")
        elif url.path == f"/api/datasets/u/n/tree/{COMMIT}":
            self.answer(json.dumps(self.tree()).encode())
        elif url.path.startswith("/datasets/u/n/resolve/"):
            self.send_member(urllib.parse.unquote(url.path).removeprefix(self.resolved))
        elif url.path.startswith("/api/datasets/g/n"):
            self.refuse(403, "GatedRepo")
        else:
            self.refuse(404, "RepoNotFound")

    do_HEAD = do_GET
    resolved = f"/datasets/u/n/resolve/{COMMIT}/"

    def tree(self):
        return [
            {"type": "file", "path": path, "size": len(content), "oid": f"{number:040x}"}
            for number, (path, content) in enumerate(self.server.files.items())
        ]

    def send_member(self, name):
        if name in self.server.broken:
            self.refuse(404, "EntryNotFound")
        else:
            self.answer(self.server.files[name])

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, content):
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, tune_files):
    tunes = [file.read_bytes() for file in tune_files[:6]]
    pq.write_table(pa.table({"midi": tunes[:2]}), tmp_path / "midi.parquet")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    zip_of(tmp_path / "z.zip", [("inner.mid", tunes[2])])
    with HubServer(("127.0.0.1", 0), HubHandler) as server:
        server.asked, server.tokens, server.broken = [], set(), set()
        server.files = {
            "README.md": b"about",
            "audio/take.wav": b"RIFF",
            "data/midi.parquet": (tmp_path / "midi.parquet").read_bytes(),
            "data/text.parquet": (tmp_path / "text.parquet").read_bytes(),
            "more [1]/B.MID": tunes[3],
            "more [1]/z.zip": (tmp_path / "z.zip").read_bytes(),
        }
        server.environment = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": TOKEN,
            # a busy machine may take longer than the library's ten seconds
            "HF_HUB_ETAG_TIMEOUT": "120",
            "HF_HUB_DOWNLOAD_TIMEOUT": "120",
        }
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


PROGRAM = """
import json, logging, sys
from pathlib import Path
from data_prep.collections.passed_over import PassedOverFiles
from data_prep.collections.sources import open_source
logging.basicConfig(level=logging.INFO, format="%(message)s")
try:
    source = open_source(sys.argv[1], Path(sys.argv[2]))
    read = {member.name: len(content) for member, content in source.read(source.members())}
except ValueError as error:
    sys.exit(f"error: {error}")
print(json.dumps([str(source.path), source.name, read]))
"""


def from_hub(hub, uri, root, **environment):
    """Opens a source in a new process: the Hub's library reads its variables once."""
    process = opened_from_hub(hub, uri, root, environment)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def refusal_from_hub(hub, uri, root, **environment):
    """The last line that says why a source is not opened."""
    process = opened_from_hub(hub, uri, root, environment)
    assert process.returncode != 0, process.stdout
    return process.stderr.splitlines()[-1]


def opened_from_hub(hub, uri, root, environment):
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, uri, str(root)],
        cwd=ROOT,
        env=hub.environment | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert TOKEN not in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    return process


def test_dataset_of_the_hub_is_fetched_once_and_found_again_offline(hub, tmp_path):
    files = hub.files
    path, name, read = from_hub(hub, "hf://datasets/u/n", tmp_path)
    assert (path, name) == (str(tmp_path / "downloads" / "u--n" / COMMIT), "n")
    assert list(read) == [
        *("data/midi.parquet/00000000", "data/midi.parquet/00000001"),
        *("more [1]/B.MID", "more [1]/z.zip/inner.mid"),
    ]
    assert read["more [1]/B.MID"] == len(files["more [1]/B.MID"])
    assert f"Bearer {TOKEN}" in hub.tokens
    assert not [url for url in hub.asked if "README" in url or "wav" in url]
    asked = len(hub.asked)
    assert from_hub(hub, "hf://datasets/u/n", tmp_path, HF_HUB_OFFLINE="1")[2] == read
    assert len(hub.asked) == asked


def test_folder_or_file_of_a_revision_is_fetched_alone(hub, tmp_path):
    path, name, read = from_hub(hub, "hf://datasets/u/n@v1/more [1]", tmp_path)
    folder = tmp_path / "downloads" / "u--n" / COMMIT
    assert (path, name, list(read)) == (str(folder / "more [1]"), "n", ["B.MID", "z.zip/inner.mid"])
    assert not (folder / "data").exists()
    path, _, read = from_hub(hub, f"hf://datasets/u/n@{COMMIT}/data/midi.parquet", tmp_path)
    assert (path, list(read)) == (
        str(folder / "data" / "midi.parquet"),
        ["00000000", "00000001"],
    )


def test_half_of_a_dataset_does_not_pass_for_the_whole(hub, tmp_path):
    hub.broken = {"more [1]/z.zip"}
    uri = "hf://datasets/u/n"
    assert "the files so far are kept, repeat the command" in refusal_from_hub(hub, uri, tmp_path)
    assert (tmp_path / "downloads" / "u--n" / COMMIT).is_dir()
    offline = refusal_from_hub(hub, uri, tmp_path, HF_HUB_OFFLINE="1")
    assert offline.endswith(
        "HF_HUB_OFFLINE is set, and not all files were downloaded before; unset it"
    )
    hub.broken = set()
    assert len(from_hub(hub, uri, tmp_path)[2]) == 4


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("hf://datasets/u/nothing", "no such dataset, or a private one"),
        ("hf://datasets/g/n", "its owners grant access on request"),
        ("hf://datasets/u/n@v2", "no such revision"),
        ("hf://datasets/u/n/nowhere", "has no such file, nor a folder"),
        ("hf://datasets/u/n/../../x", "names no place in a dataset"),
        ("hf://u/n", "names no place in a dataset"),
        ("hf://datasets/u", "names no dataset; expected hf://datasets/<user>/<name>"),
    ],
)
def test_dataset_that_cannot_be_had_ends_in_one_line(hub, tmp_path, uri, said):
    line = refusal_from_hub(hub, uri, tmp_path)
    assert line.startswith(f"error: {uri}")
    assert said in line


def test_hub_that_does_not_answer_ends_in_one_line(hub, tmp_path):
    line = refusal_from_hub(hub, "hf://datasets/u/n", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert line.startswith("error: hf://datasets/u/n: ")
    line = refusal_from_hub(hub, "hf://datasets/u/n", tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in line
