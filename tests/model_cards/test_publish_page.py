"""A page becomes the folder of a static Space."""

import pytest
import yaml
from tiny_models import build, char_tokenizer

from model_cards.page_files import write_page_files
from model_cards.publish_page import main


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "small_gpt"
    build("abc_gpt").save_pretrained(folder)
    char_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def page(saved, tmp_path):
    write_page_files(saved, tmp_path / "page")
    (tmp_path / "page" / "index.html").write_text("<!doctype html>")
    return tmp_path / "page"


def test_the_folder_begins_with_what_the_hub_needs_for_a_static_space(page, capsys):
    assert main([str(page), "someone/music", "--dry-run"]) == 0
    text = (page / "README.md").read_text("utf-8")
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["sdk"], head["app_file"], head["title"]) == (
        *("static", "index.html", "small_gpt writes music"),
    )
    assert len(head["short_description"]) <= 60  # the Hub's limit
    assert "A GPT of " in text
    assert "a static Space of" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["no page", "studio", "pickle", "link", "name"])
def test_what_is_no_page_is_refused_in_one_line(fault, page, saved, tmp_path, capsys):
    folder, repo = page, "someone/music"
    if fault == "no page":
        folder = tmp_path
    elif fault == "studio":
        write_page_files(saved, page, has_weights=False)
    elif fault == "pickle":
        (page / "model" / "optimizer.pt").touch()
    elif fault == "link":
        (page / "secret.txt").symlink_to(saved / "config.json")
    else:
        repo = "no/such/name"
    assert main([str(folder), repo, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert not (folder / "README.md").exists()
