"""The page's build: Python's library is cut to what a page can use."""

import json
import subprocess
import zipfile

from node_page import PAGE, needs_node

pytestmark = needs_node


def trimmed(archive, kept, out):
    """Writes the archive with those files whose names are kept."""
    code = f"""
        import {{ readFileSync, writeFileSync }} from "node:fs";
        import {{ trimZip }} from {json.dumps(str(PAGE / "trim_zip.mjs"))};
        const bytes = readFileSync({json.dumps(str(archive))});
        const kept = {json.dumps(kept)};
        writeFileSync({json.dumps(str(out))}, trimZip(bytes, (name) => kept.includes(name)));
    """
    command = ["node", "--input-type=module", "-e", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_trimmed_archive_has_the_kept_files_as_they_were(tmp_path):
    contents = {"a.py": b"a = 1\n" * 500, "room/b.py": b"", "c.py": bytes(range(256))}
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    done = trimmed(tmp_path / "all.zip", ["c.py", "a.py"], tmp_path / "some.zip")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "some.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.py", "c.py"]
        assert {name: archive.read(name) for name in archive.namelist()} == {
            name: contents[name] for name in ("a.py", "c.py")
        }


def test_what_is_no_archive_is_an_error(tmp_path):
    (tmp_path / "none.zip").write_bytes(b"no zip file at all, but long enough")
    done = trimmed(tmp_path / "none.zip", [], tmp_path / "out.zip")
    assert "no zip file without comment" in done.stderr
