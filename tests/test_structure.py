import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_prep.storage.drop_reasons import HELP, DropReason

ROOT = Path(__file__).parent.parent
PACKAGES = ("data_prep", "modeling", "training", "scaling", "evaluation", "model_cards")
# Who may import whom. `evaluation` takes the loss of a song and the data's place from `training`,
# so that validation and test loss are one computation.
ALLOWED = {
    "data_prep": set(),
    "modeling": set(),
    "scaling": set(),
    "training": {
        "modeling",
        "scaling.counts",
        "scaling.families",
        "scaling.writing.commands",
        "scaling.writing.files",
        "scaling.fit_options",
    },
    "model_cards": {"modeling", "scaling.families", "scaling.writing.commands"},
    "evaluation": {
        "data_prep",
        "modeling",
        "training.data.blocks",
        "training.data.data_files",
        "training.data.validation",
        "scaling.reporting.blocks",  # which fills the README
        "scaling.writing.commands",
        "scaling.families",
        "scaling.writing.files",
        "scaling.writing.markdown",
        "scaling.writing.wording",
    },
}
MODELING_MAY_IMPORT = {"torch", "transformers", *sys.stdlib_module_names}
# Where data_prep is installed, the pipeline that travels to the Hub gives MIDI files as well.
OPTIONAL_IMPORTS = {"pipeline_abc_music.py": "data_prep.dialect.abc_to_midi"}


# They run from the cache of `evaluate`, where there is no package around them.
STANDALONE = ROOT / "evaluation" / "evaluate_modules"


def sources(package: str) -> list[Path]:
    """All modules of a package, those of its rooms too."""
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." * node.level + (node.module or ""))
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_whom_they_may(package):
    for path in sources(package):
        for name in set(imports(path)) - {OPTIONAL_IMPORTS.get(path.name)}:
            if name.split(".")[0] in PACKAGES:
                if name.split(".")[0] == package:
                    assert STANDALONE in path.parents, f"{path}: inside, imports are relative"
                    continue
                allowed = any(name == ok or name.startswith(ok + ".") for ok in ALLOWED[package])
                assert allowed, f"{path} imports {name}"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(package: str) -> dict[str, set[str]]:
    """Module -> modules of the same package that it imports, anywhere in its text."""
    modules = {module_name(path): path for path in sources(package)}
    found = {}
    for name, path in modules.items():
        parents = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                start = ".".join(parents[: len(parents) - node.level + 1])
                target = f"{start}.{node.module}" if node.module else start
                found[name] |= {target, *(f"{target}.{alias.name}" for alias in node.names)}
        found[name] = (found[name] & modules.keys()) - {name}
    return found


def circles(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is left of a graph once all that leads to no circle is taken away."""
    while free := {node for node, targets in graph.items() if not targets & graph.keys()}:
        graph = {node: targets - free for node, targets in graph.items() if node not in free}
    return graph


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_in_no_circle_neither_of_modules_nor_of_rooms(package):
    graph = imported_modules(package)
    assert not circles(graph)

    def room(module: str) -> str:
        folder = ".".join(module.split(".")[:2])
        return folder if (ROOT / folder.replace(".", "/")).is_dir() else module

    rooms: dict[str, set[str]] = {}
    for module, targets in graph.items():
        here = room(module)
        rooms.setdefault(here, set()).update({room(target) for target in targets} - {here})
    assert not circles(rooms)


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_are_small(package):
    for folder in {path.parent for path in sources(package)}:
        names = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        most = 16 if folder == ROOT / package else 12
        assert package == "modeling" or len(names) <= most, f"{folder}: {len(names)} files"


@pytest.mark.parametrize("package", ["data_prep", "scaling"])
def test_packages_without_torch_do_not_import_it(package):
    for path in sources(package):
        assert not [name for name in imports(path) if name.split(".")[0] == "torch"], path


def test_files_that_travel_to_the_hub_import_only_what_is_there():
    for path in sources("modeling"):
        if path.name == "__init__.py":
            continue
        for name in set(imports(path)) - {OPTIONAL_IMPORTS.get(path.name)}:
            same_folder = re.fullmatch(r"\.[a-z_]+", name)
            assert same_folder or name.split(".")[0] in MODELING_MAY_IMPORT | {"__future__"}, (
                f"{path} imports {name}"
            )


def test_facts_of_the_dialect_are_one_file_that_stands_twice():
    source, twin = ROOT / "data_prep/dialect/notation.py", ROOT / "modeling/notation_abc.py"
    assert source.read_bytes() == twin.read_bytes(), f"cp {source} {twin}"
    assert {name.split(".")[0] for name in imports(source)} <= {
        "__future__",
        *sys.stdlib_module_names,
    }


def test_optional_imports_stand_in_a_try():
    for name, module in OPTIONAL_IMPORTS.items():
        tree = ast.parse((ROOT / "modeling" / name).read_text("utf-8"))
        guarded = [
            inner.module
            for outer in ast.walk(tree)
            if isinstance(outer, ast.Try)
            for inner in ast.walk(outer)
            if isinstance(inner, ast.ImportFrom)
        ]
        assert guarded == [module]


def test_a_reason_to_drop_stands_in_one_list_and_is_given_by_a_rule():
    """So a new rule is two files: its reason with a line of help, and whatever gives it."""
    given, written = set(), {}
    texts = set(DropReason) - {DropReason.UNREADABLE}  # what sources.py calls a dead link as well
    for path in (ROOT / "data_prep").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "DropReason":
                if path.name != "drop_reasons.py":  # where each has its help
                    given.add(DropReason[node.attr])
            elif isinstance(node, ast.Constant) and node.value in texts:
                written[node.value] = path.name
    assert given == set(DropReason)
    assert set(written.values()) == {"drop_reasons.py"}, written
    assert HELP.keys() == set(DropReason)
    assert all(line and "\n" not in line for line in HELP.values())


def test_no_pickle_eval_or_shell():
    forbidden = re.compile(r"\bimport pickle\b|shell=True|\beval\(|\bexec\(")
    for package in PACKAGES:
        for path in (*sources(package), ROOT / "train.py"):
            for line in path.read_text("utf-8").splitlines():
                harmless = ".eval(" in line
                assert harmless or not forbidden.search(line), f"{path}: {line}"


def test_tree_of_the_readme_is_that_of_the_project():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 150
    tree = readme.split("## The tree")[1].split("```")[1]
    folders, named = [], set()
    for line in tree.splitlines():
        for name in re.findall(r"^( *[\w.]+/?|(?<=   )[\w.]+)", line)[:1]:
            depth = (len(name) - len(name.lstrip())) // 2
            folders = [*folders[:depth], name.strip()]
            path = ROOT / "".join(folders)
            assert path.exists(), f"{path} is in the README's tree"
            named.add(path)
    for package in PACKAGES:
        rooms = {path.parent for path in (ROOT / package).glob("*/*.py")}
        assert rooms | {ROOT / package} <= named, f"not in the README's tree: {rooms - named}"


def test_paths_modules_and_make_targets_that_pages_name_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    packages = "|".join(PACKAGES)
    pages = [*ROOT.glob("*.md"), ROOT / "results" / "README.md", *ROOT.glob("docs/**/*.md")]
    assert len(pages) > 15
    for page in pages:
        text = page.read_text("utf-8")
        for path in re.findall(r"\]\(([^)#:]+)\)", text):
            is_figure = path.startswith("../assets/")  # of results/, see docs/hooks.py
            target = ROOT / "results/figures" / Path(path).name if is_figure else page.parent / path
            assert target.exists(), f"{page} links {path}"
        for path in re.findall(rf"\b(?:(?:{packages}|configs|tests|benchmarks)/[\w./*]+\w)", text):
            assert list(ROOT.glob(path)), f"{page} names {path}"
        for name in set(re.findall(rf"-m\s+((?:{packages})[\w.]+\w)", text + makefile)):
            path = ROOT / name.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page}: make {target}"
    phony = set(re.search(r"^\.PHONY: (.*)", makefile, re.MULTILINE)[1].split())
    targets = set(
        re.findall(r"^(?:\$\(eval \$\(call renamed,)?([a-z-]+)[:,]", makefile, re.MULTILINE)
    )
    assert targets == phony, "a file or folder of that name would keep make from running it"


def test_every_target_sets_itself_up_in_a_fresh_clone(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for target in ("setup", "demo", "test", "docs"):
        done = subprocess.run(["make", "-n", target], cwd=tmp_path, capture_output=True, text=True)
        assert "-m venv .venv" in done.stdout, done.stderr
        assert "--constraint constraints.txt" in done.stdout


def test_dependencies_of_the_project_are_all_pinned():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    }
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(item for extra in extras for item in extra)]
    names = {re.match(r"[\w-]+", item)[0].lower().replace("_", "-") for item in wanted}
    assert names <= pinned


def test_packages_that_are_imported_are_declared():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["datatrove"], *extras["mcp"], *extras["peft"]]
    wanted += [*extras["gguf"], *extras["llguidance"], *extras["onnx"], *extras["studio"]]
    names = {re.match(r"[\w-]+", item)[0].lower() for item in wanted}
    modules = {"pyyaml": "yaml", "llama-cpp-python": "llama_cpp"}
    declared = {modules.get(name, name) for name in names}
    ours = {*PACKAGES, "train", "__future__"}
    for package in PACKAGES:
        for path in sources(package):
            for name in {name.split(".")[0] for name in imports(path) if name[0] != "."}:
                known = name in sys.stdlib_module_names or name in declared | ours
                assert known, f"{path} imports {name}, which pyproject.toml does not name"


def test_presets_that_configs_name_exist():
    for path in (ROOT / "configs").rglob("*.yaml"):
        content = yaml.safe_load(path.read_text("utf-8"))
        preset = (content.get("data") or {}).get("preset")
        preset = preset or (content.get("overrides") or {}).get("data.preset")
        if preset and path.parent.name != "data":
            assert (ROOT / "configs" / "data" / f"{preset}.yaml").is_file(), f"{path}: {preset}"


def test_every_yaml_file_is_readable():
    files = list((ROOT / "configs").rglob("*.yaml"))
    assert len(files) > 20
    for path in files:
        assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict), path
