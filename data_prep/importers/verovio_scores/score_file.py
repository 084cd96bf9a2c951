"""The bytes of a score file -> its text, which verovio reads: MusicXML, MEI or Humdrum.

Compressed MusicXML (.mxl) is a .zip; META-INF/container.xml names the score inside.
Source: MusicXML 4.0, "Compressed .mxl files".
"""

import html
import io
import re
import zipfile
import zlib
from pathlib import PurePosixPath

from ...midi.limits import MidiError
from ...storage.drop_reasons import DropReason

SCORE_SUFFIXES = (".mxl", ".musicxml", ".xml", ".mei", ".krn")
# verovio takes 50 bytes of memory for each; a whole string quartet has 10 million.
MOST_SCORE_BYTES = 24_000_000

_FORMATS = {  # the root element, or the first line -> verovio's name of the format
    re.compile(r"<(?:\w+:)?score-(?:part|time)wise[\s>/]"): "xml",
    re.compile(r"<(?:\w+:)?mei[\s>/]"): "mei",
    re.compile(r"^\*\*\w", re.MULTILINE): "humdrum",
}
_START_CHARS = 65_536  # of a file, within which the root element is searched
_ROOT_FILE = re.compile(r"<rootfile\s[^>]*full-path\s*=\s*[\"']([^\"']+)")
_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_ENCODING = re.compile(rb"\s*<\?xml[^>]*encoding\s*=\s*[\"']([\w.-]+)")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ZIP = b"PK\x03\x04"
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
)


def is_score(start: bytes) -> bool:
    """Whether a file is MusicXML, MEI or Humdrum by its first bytes, not compressed."""
    return _format(_decoded(start)) is not None


def read_score_file(content: bytes) -> tuple[str, str]:
    """Returns the text of a score, and its format: `xml` (MusicXML), `mei` or `humdrum`.

    Raises:
        MidiError: If it is none of these, damaged or too large.
    """
    if content.startswith(_ZIP):
        content = _unpacked(content)
    text = _decoded(content)
    found = _format(text)
    if not found:
        raise MidiError(
            DropReason.NOT_A_SCORE,
            f"starts with {text[:40]!r}, expected MusicXML, MEI or Humdrum",
        )
    return _DECLARATION.sub("", text, count=1) if found != "humdrum" else text, found


def _format(text: str) -> str | None:
    start = text[:_START_CHARS]
    return next((name for root, name in _FORMATS.items() if root.search(start)), None)


def _decoded(content: bytes) -> str:
    """Returns XML as its declaration says, and other text as UTF-8 or Latin-1."""
    if content.startswith(_UTF16_MARKS):
        return content.decode("utf-16", "replace")
    named = _ENCODING.match(content.removeprefix(b"\xef\xbb\xbf"))
    try:
        return content.decode(named[1].decode() if named else "utf-8-sig").removeprefix("\ufeff")
    except (UnicodeDecodeError, LookupError):
        return content.decode("latin-1")


def _unpacked(content: bytes) -> bytes:
    """Returns the score inside an .mxl file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = archive.getinfo(name := _root_file(archive)).file_size
            if size > MOST_SCORE_BYTES:
                message = f"{size:,} bytes unpacked, limit {MOST_SCORE_BYTES:,}"
                raise MidiError(DropReason.TOO_MANY_BYTES, message)
            with archive.open(name) as file:
                return file.read(MOST_SCORE_BYTES)
    except MidiError:
        raise
    except _ZIP_ERRORS as error:
        reason = " ".join(str(error).split())
        raise MidiError(DropReason.UNREADABLE, f"a damaged .mxl: {reason}") from error


def _root_file(archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    if "META-INF/container.xml" in names:
        with archive.open("META-INF/container.xml") as file:
            found = _ROOT_FILE.search(_decoded(file.read(_START_CHARS)))
        if found and html.unescape(found[1]) in names:
            return html.unescape(found[1])
    others = [name for name in names if PurePosixPath(name).parts[:1] != ("META-INF",)]
    scores = [name for name in others if name.lower().endswith((".musicxml", ".xml"))]
    if not scores:
        raise ValueError("no score inside")
    return scores[0]
