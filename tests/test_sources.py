import gzip
import http.server
import io
import stat
import tarfile
import threading
import tracemalloc
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.download import DownloadError, download
from data_prep.midi_file import LIMITS, MidiError
from data_prep.sources import SourceError, open_source


def read(path, root):
    source = open_source(str(path), root)
    return {member.name: content for member, content in source.read(source.members())}


def reasons(path, root):
    found = read(path, root)
    return {name: c.reason if isinstance(c, MidiError) else len(c) for name, c in found.items()}


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


def test_archives_in_a_folder_are_read_one_level_deep_in_sorted_order(tmp_path, tune_files):
    tunes = [file.read_bytes() for file in tune_files[:5]]
    music = tmp_path / "music"
    (music / "b").mkdir(parents=True)
    (music / "z.mid").write_bytes(tunes[0])
    (music / "b" / "a.mid").write_bytes(tunes[1])
    inner = zip_of(tmp_path / "inner.zip", [("deep.mid", tunes[4])]).read_bytes()
    zip_of(music / "c.zip", [("2.mid", tunes[3]), ("1.mid", tunes[2]), ("inner.zip", inner)])
    tar_of(music / "a.tgz", [("t.mid", tunes[4])])
    found = read(music, tmp_path)
    assert list(found) == ["a.tgz/t.mid", "b/a.mid", "c.zip/1.mid", "c.zip/2.mid", "z.mid"]
    assert list(found.values()) == [tunes[4], tunes[1], tunes[2], tunes[3], tunes[0]]


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
    monkeypatch.setattr("data_prep.sources.LAKH_FILES", {"lmd_full": "a.bin"})
    monkeypatch.setattr("data_prep.download.LAKH_FILES", {"lmd_full": "a.bin"})
    source = open_source("lmd_full", tmp_path)
    assert (source.name, len(source.members())) == ("lmd_full", 1)
