"""transformers' own tests of models and of generation, run on both families.

    python tests/library_mixins/run.py <source package> <checkout> [--out runs/mixins.json]

Nothing of those tests lies in this repository. ModelTesterMixin comes from the source package of
the installed version (`pip download --no-binary :all: --no-deps transformers==...`, unpacked);
GenerationTesterMixin and CausalLMModelTest, which the package leaves out, from a checkout of the
library. They are put together in a temporary folder with `gpt.py` and `lstm.py`, and run there
without network. RUN_SLOW=1 adds the tests that the library marks as slow.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers

HERE = Path(__file__).resolve().parent
FAMILIES = {"abc_gpt": "gpt.py", "abc_lstm": "lstm.py"}
FROM_CHECKOUT = [
    "conftest.py",
    "tests/__init__.py",
    "tests/causal_lm_tester.py",
    "tests/exporters",
    "tests/generation",
    "tests/utils",
    "utils",
]
VERSION_FILE = "src/transformers/__init__.py"
# The mixins for several processes import this file, which neither source has. On a CPU they run
# for a few models that they name, and say so themselves once they know the device.
STUB = """
import unittest


def _get_distributed_device_type():
    return "cpu"


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*args, **kwargs):
        raise unittest.SkipTest("tests/distributed_testing_utils.py is in neither source")

    return missing
"""
TIMEOUT_SECONDS = 3600


def check_sources(package: Path, checkout: Path) -> str:
    """Refuse sources that do not fit.

    Returns:
        The version of the package, which is that of the installed library.

    Raises:
        ValueError: If the package is of another version, or a source lacks what is needed.
    """
    info = package / "PKG-INFO"
    if not info.is_file() or not (package / "tests" / "test_modeling_common.py").is_file():
        raise ValueError(
            f"{package}: no PKG-INFO and tests/test_modeling_common.py; expected the unpacked "
            "source package of transformers"
        )
    version = re.search(r"^Version: (\S+)$", info.read_text("utf-8"), re.MULTILINE)[1]
    if version != transformers.__version__:
        raise ValueError(
            f"{package} is transformers {version}, but {transformers.__version__} is installed; "
            "take the package of that version"
        )
    is_git = (checkout / "HEAD").is_file()
    missing = [] if is_git else [name for name in FROM_CHECKOUT if not (checkout / name).exists()]
    if missing:
        raise ValueError(f"{checkout} has no {', '.join(missing)}; expected a checkout")
    return version


def take_from_checkout(checkout: Path, tree: Path) -> None:
    """Copy the files of FROM_CHECKOUT; from a bare git folder, those of its HEAD."""
    if (checkout / "HEAD").is_file():
        command = ["git", "--git-dir", str(checkout), "archive", "HEAD", VERSION_FILE]
        archive = subprocess.run([*command, *FROM_CHECKOUT], check=True, capture_output=True)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(tree, filter="data")
        return
    for name in [*FROM_CHECKOUT, VERSION_FILE]:
        source, target = checkout / name, tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.is_file():
            shutil.copy(source, target)


def assemble(package: Path, checkout: Path, tree: Path) -> dict[str, str]:
    """Put both sources and our two files together under `tree`.

    Returns:
        Version and digest of the files that came from the checkout.
    """
    take_from_checkout(checkout, tree)
    version_file = tree / VERSION_FILE
    text = version_file.read_text("utf-8") if version_file.is_file() else ""
    version = re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)
    shutil.rmtree(tree / "src", ignore_errors=True)
    # Some tests read the library's files where a checkout has them.
    (tree / "src").symlink_to(Path(transformers.__file__).parent.parent)
    for file in (package / "tests").glob("*.py"):
        shutil.copy(file, tree / "tests")
    helper = tree / "tests" / "distributed_testing_utils.py"
    if not helper.exists():
        helper.write_text(STUB, encoding="utf-8")
    for family, file in FAMILIES.items():
        shutil.copy(HERE / file, tree / "tests" / f"test_modeling_{family}.py")
    digest = hashlib.sha256((tree / "tests/generation/test_utils.py").read_bytes()).hexdigest()
    return {
        "version": version[1] if version else "unknown",
        "sha256_of_generation_test_utils": digest,
    }


def run_tests(tree: Path, log: Path) -> dict[str, dict[str, Any]]:
    """What `recorder.py` recorded of a run in a child process, whose output goes to `log`."""
    outcomes = tree / "outcomes.json"
    files = [f"tests/test_modeling_{family}.py" for family in FAMILIES]
    flags = ["-q", "-p", "no:cacheprovider", "-p", "recorder", f"--outcomes={outcomes}"]
    flags += ["--tb=short", "--disable-warnings", "--show-capture=no"]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(HERE),
        # A compilation that was interrupted elsewhere must not reach this run.
        "TORCHINDUCTOR_CACHE_DIR": str(tree / "inductor"),
    }
    command = [sys.executable, "-m", "pytest", *flags, *files]
    print(f"two minutes or more; output of the tests -> {log}")
    with log.open("w", encoding="utf-8") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        subprocess.run(command, cwd=tree, env=environment, timeout=TIMEOUT_SECONDS, **streams)
    if not outcomes.is_file():
        raise RuntimeError(f"pytest ended before its first test; {log} says why")
    return json.loads(outcomes.read_text("utf-8"))


def general(reason: str) -> str:
    """A reason without the names of test and class, so that like ones are counted together."""
    reason = re.sub(r"^\w+::\w+ is skipped: ", "", reason)
    reason = re.sub(
        r"^`[\w-]+` is not in .*", "the pipeline's task is none of the family's", reason
    )
    reason = re.sub(r" for `[\w-]+`\.$", "", reason)
    reason = re.sub(r"model_type='abc_\w+' .*", "the family's model type", reason)
    return re.sub(r"(<class ')?(\w+\.)*Abc(GPT|LSTM)\w*('>)?", "the model", reason)


def summarise(tests: dict[str, dict[str, Any]], family: str) -> dict[str, Any]:
    """Counts of one family; skips are ours if our file or the stub asked for them."""
    file = f"test_modeling_{family}.py"
    own = {name: test for name, test in tests.items() if name.split("::")[0].endswith(file)}
    skipped = [test for test in own.values() if test["outcome"] == "skipped"]
    ours = [test for test in skipped if test["file"] in {file, "distributed_testing_utils.py"}]
    reasons = Counter(general(test["reason"]) for test in skipped)
    return {
        "passed": sum(test["outcome"] == "passed" for test in own.values()),
        "failed": [name for name, test in own.items() if test["outcome"] == "failed"],
        "skipped": len(skipped),
        "skipped_by_our_files": len(ours),
        "subtests_passed": sum(test["subtests"] for test in own.values()),
        "reasons_to_skip": dict(reasons.most_common()),
    }


def print_table(families: dict[str, dict[str, Any]], versions: dict[str, Any]) -> None:
    """Outcomes a family, then how often each reason to skip was given."""
    names = list(families)
    print(f"\n{'':72} " + " ".join(f"{name:>9}" for name in names))
    for key in ("passed", "failed", "skipped", "skipped_by_our_files", "subtests_passed"):
        counts = [families[name][key] for name in names]
        counts = [len(count) if isinstance(count, list) else count for count in counts]
        print(f"{key.replace('_', ' '):72} " + " ".join(f"{count:>9}" for count in counts))
    reasons = [families[name]["reasons_to_skip"] for name in names]
    total = sum((Counter(each) for each in reasons), Counter())
    print("\nwhy skipped")
    for reason, _ in total.most_common():
        counts = " ".join(f"{each.get(reason, 0):>9}" for each in reasons)
        print(f"{reason[:72]:72} {counts}")
    print(f"\n{json.dumps(versions)}")


def main() -> int:
    """Run, print the table, write the JSON; 1 if a test failed or a family has none that passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path, help="unpacked source package of transformers")
    parser.add_argument("checkout", type=Path, help="checkout of the library, or a bare git folder")
    parser.add_argument("--out", type=Path, default=Path("runs/mixins.json"))
    options = parser.parse_args()
    try:
        version = check_sources(options.package, options.checkout)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        checkout = assemble(options.package, options.checkout, tree)
        tests = run_tests(tree, options.out.with_suffix(".log"))
    families = {family: summarise(tests, family) for family in FAMILIES}
    versions = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "source_package": version,
        "checkout": checkout,
    }
    print_table(families, versions)
    result = {"versions": versions, "families": families}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"-> {options.out}")
    bad = [name for name, each in families.items() if each["failed"] or not each["passed"]]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
