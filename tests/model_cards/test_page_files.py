"""A model's files for the page that plays it."""

import json
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import build, char_tokenizer

from model_cards.page_files import ENTRY, ROOT, imported_files, main, write_page_files


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "saved"
    build("abc_gpt").save_pretrained(folder)
    char_tokenizer().save_pretrained(folder)
    return folder


def test_weights_are_rounded_to_half_precision_and_tied_ones_written_once(saved, tmp_path):
    write_page_files(saved, tmp_path / "page")
    halves = load_file(tmp_path / "page" / "model" / "model.safetensors")
    weights = load_file(saved / "model.safetensors")
    assert "lm_head.weight" not in halves
    for name, half in halves.items():
        assert torch.equal(half, weights[name].half())
    about = json.loads((tmp_path / "page" / "model" / "about.json").read_text())
    assert about["n_parameters"] == sum(half.numel() for half in halves.values())
    assert (about["family"], about["name"]) == ("GPT", "saved")


def test_a_studios_page_has_no_weights_of_its_own_and_none_of_a_page_before(saved, tmp_path):
    write_page_files(saved, tmp_path / "page")
    write_page_files(saved, tmp_path / "page", has_weights=False)
    folder = tmp_path / "page" / "model"
    assert not (folder / "model.safetensors").exists()
    about = json.loads((folder / "about.json").read_text())
    assert about["isServed"] is True
    assert about["n_parameters"] > 0


def test_the_model_itself_is_never_overwritten(saved, tmp_path):
    inside = saved.rename(tmp_path / "model")
    with pytest.raises(ValueError, match="is the model itself"):
        write_page_files(inside, tmp_path)
    assert (inside / "model.safetensors").is_file()


def test_the_archive_holds_the_dialects_own_files_and_is_the_same_each_time(saved, tmp_path):
    for name in ("one", "two"):
        write_page_files(saved, tmp_path / name)
    archives = [tmp_path / name / "python.zip" for name in ("one", "two")]
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as archive:
        for name in ("modeling/grammar_abc_tokens.py", "data_prep/importers/foreign_abc.py"):
            assert archive.read(name) == (ROOT / name).read_bytes()


def test_all_that_the_page_imports_is_standard_library(tmp_path):
    assert ENTRY in imported_files(ENTRY)
    with pytest.raises(ValueError, match="imports torch, which the page does not have"):
        imported_files(ROOT / "modeling" / "decoding_abc.py")


def test_what_is_no_model_or_too_large_for_half_precision_is_refused(saved, tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "page")]) == 2
    assert "no config.json" in capsys.readouterr().err
    weights = load_file(saved / "model.safetensors")
    weights["model.norm.weight"][0] = 1e6
    save_file(weights, saved / "model.safetensors")
    assert main([str(saved), str(tmp_path / "page")]) == 2
    assert "model.norm.weight has values beyond 65,504" in capsys.readouterr().err
