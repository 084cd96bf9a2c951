import json
from pathlib import Path

import pytest
from strangers import run_stranger

from data_prep.midi_to_abc.converter import midi_to_abc

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "evaluation" / "evaluate_modules"

# In a process of its own: `evaluate` reads where it may write when it is imported.
SCRIPT = """
import json, sys
from pathlib import Path
import evaluate

module, tunes = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
sys.path.insert(0, sys.argv[4])
more = {
    "abc_validity": (tunes[:1], {}),
    "abc_playability": (tunes[:1], {}),
    "music_stats": (tunes, {}),
    "music_distance": (tunes[:10], {"real_tunes": tunes[10:]}),
    "memorization": (tunes[:5], {"train_tunes": tunes[:10], "control_tunes": tunes[10:]}),
}
found = {}
for name, (predictions, settings) in more.items():
    metric = evaluate.load(module, name, keep_in_memory=True)
    assert metric.description
    found[name] = metric.compute(predictions=predictions, **settings)
try:
    evaluate.load(module, "abc_validty")
except ValueError as error:
    found["unknown"] = str(error)
Path(sys.argv[3]).write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory, tune_files):
    folder = tmp_path_factory.mktemp("evaluate")
    tunes = [midi_to_abc(path.read_bytes(), layout="voices") for path in tune_files[:30]]
    (folder / "tunes.json").write_text(json.dumps(tunes))
    arguments = [str(MODULE), str(folder / "tunes.json"), str(folder / "found.json"), str(ROOT)]
    run_stranger(SCRIPT, folder, *arguments, HF_HOME=str(folder / "home"))
    return json.loads((folder / "found.json").read_text())


def test_unknown_name_is_told_the_known_ones(found):
    assert "'abc_validty', expected one of abc_validity, abc_playability" in found["unknown"]
    assert all(name in found["unknown"] for name in found if name != "unknown")


def test_real_tunes_are_valid_and_playable_by_the_modules(found):
    for name in ("abc_validity", "abc_playability"):
        assert found[name]["rates"]["own_reader"]["rate"] == 1
        assert found[name]["rates"]["own_reader"]["n"] == 1
    assert found["abc_validity"]["rates"].keys() > found["abc_playability"]["rates"].keys()


def test_statistics_and_distance_of_real_tunes(found):
    statistics = found["music_stats"]["statistics"]
    assert found["music_stats"]["n_unreadable"] == 0
    assert statistics["scale_consistency"]["mean"] > 0.9
    overlap = found["music_distance"]["statistics"]["pitch_range"]["overlapping_area"]
    assert overlap["value"]["mean"] > 0.5
    assert found["music_distance"]["frechet"]["n_compared"] == 10


def test_tunes_of_the_training_set_are_found_in_it(found):
    name = "share_text_window_50"
    assert found["memorization"]["tunes"][name]["share"] == 1
    assert found["memorization"]["control"][name]["share"] < 0.2
