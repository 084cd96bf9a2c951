"""Datasets of several sources, and OpenScore's repositories among them."""

import shutil
import zipfile
from pathlib import Path

import pytest

from data_prep.collections import openscore
from data_prep.collections.openscore import OPENSCORE, fetch_openscore
from data_prep.collections.sources import SourceError, open_source
from data_prep.pipeline import open_sources
from data_prep.settings import load_settings

ROOT = Path(__file__).parent.parent.parent
SONG = ROOT / "tests" / "data" / "scores" / "lc6990957.mxl"


@pytest.fixture
def lieder(tmp_path):
    """A checkout with one song and files of other kinds."""
    folder = tmp_path / "given" / "Lieder"
    place = folder / "scores" / "Chaminade,_Cécile" / "_"
    place.mkdir(parents=True)
    shutil.copy(SONG, place)
    (folder / "README.md").write_text("Lieder", "utf-8")
    (place / "lc6990957.mscx").write_text("<museScore/>", "utf-8")
    return folder


def archive_of(folder, file):
    top = f"{folder.name}-{OPENSCORE['openscore_lieder'].commit}"
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{top}/{path.relative_to(folder)}")


def read(root):
    """Names from `scores/` on, and contents."""
    source = open_source("openscore_lieder", root)
    found = source.read(source.members())
    return {member.name[member.name.index("scores/") :]: content for member, content in found}


def test_songs_are_the_same_from_checkout_archive_and_download(lieder, tmp_path, monkeypatch):
    monkeypatch.setenv(openscore.FOLDER_VARIABLE, str(lieder.parent))
    found = read(tmp_path)
    assert found == {"scores/Chaminade,_Cécile/_/lc6990957.mxl": SONG.read_bytes()}
    archive_of(lieder, lieder.with_suffix(".zip"))
    shutil.rmtree(lieder)
    assert read(tmp_path) == found
    monkeypatch.delenv(openscore.FOLDER_VARIABLE)
    monkeypatch.setattr(openscore, "_HOST", tmp_path.as_uri())
    served = tmp_path / "Lieder" / "archive" / f"{OPENSCORE['openscore_lieder'].commit}.zip"
    served.parent.mkdir(parents=True)
    lieder.with_suffix(".zip").rename(served)
    assert read(tmp_path) == found


def test_folder_without_the_repository_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv(openscore.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(SourceError, match=r"OPENSCORE names .*, which has no StringQuartets"):
        fetch_openscore("openscore_quartets", tmp_path)


def test_several_sources_make_one_dataset_and_keep_their_names(tmp_path, tune_files):
    folders = [tmp_path / "jigs", tmp_path / "reels"]
    for folder, file in zip(folders, tune_files, strict=False):
        folder.mkdir()
        shutil.copy(file, folder)
    given = [str(folder) for folder in folders]
    sources, dataset = open_sources(given, tmp_path, None)
    assert ([source.name for source in sources], dataset) == (["jigs", "reels"], "jigs+reels")
    assert open_sources(given, tmp_path, "suite") == (sources, "suite")
    assert open_sources(given[:1], tmp_path, "suite")[1] == "suite"


def test_reserved_name_is_refused_for_several_sources_too(tmp_path):
    with pytest.raises(SourceError, match="latest is a reserved name"):
        open_sources(["music21", "openscore_lieder"], tmp_path, "latest")


@pytest.mark.parametrize("preset", ["pretrained", "pretrained_note"])
def test_presets_of_the_suite_hold_what_its_card_says(preset):
    settings = load_settings(ROOT / "configs" / "data" / f"{preset}.yaml")
    assert settings.split.by == "cluster"
    assert settings.augment.copies > 0
    assert settings.fill_in.share == 0.5
    assert settings.blocks.block_length >= 1024
