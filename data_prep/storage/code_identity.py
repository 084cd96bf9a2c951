"""A digest of the code that a function actually uses: its own, and all that it refers to.

Dependencies are found through names and imports: the names in a function lead to functions, classes
and constants of this project, and theirs to others. The digest covers their syntax, without
docstrings, comments, annotations and imports. So rewording a docstring or moving a definition to
another module does not change it, and changing a constant that is used anywhere below does.

Names are resolved without scopes: a local variable with the name of something at the top of its
module counts as a use of that. Lookups by string, as with `getattr`, are not seen.
Of an enum, `Reason.SILENT` uses only that member: adding members changes nothing.
"""

import ast
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
PACKAGES = ("data_prep", "modeling", "training", "scaling", "evaluation")  # others are libraries
_NOT_COMPUTED = ("annotation", "returns", "type_comment", "kind", "ctx")  # ignored fields of nodes

Place = tuple[str, str]
"""Module and name of a definition: `("data_prep.pipeline", "main")`; the name of a method, or of an
enum member, has a dot."""


def code_digest(*functions: Callable[..., Any]) -> str:
    """Returns a digest of the code that functions, methods or classes of this project use."""
    return digest_of({(_module_of(each), each.__qualname__) for each in functions})


def _module_of(function: Callable[..., Any]) -> str:
    is_command = function.__module__ == "__main__"  # started by `python -m <name>`
    return sys.modules["__main__"].__spec__.name if is_command else function.__module__


def digest_of(starts: Iterable[Place], project: Path = PROJECT) -> str:
    """Returns the digest of definitions and all that they use, as 16 hexadecimal digits.

    Raises:
        ValueError: If a definition is not found, or uses a module as an object.
    """
    texts = []
    for place in definitions_used(starts, project):
        definition = _definition(project, *place)
        # The text of the used definition tells apart two definitions of the same name.
        used = {name: _definition(project, *place).text for name, place in definition.uses.items()}
        texts.append(f"{definition.text} {sorted(used.items())}")
    return hashlib.sha256("\n".join(sorted(set(texts))).encode()).hexdigest()[:16]


def definitions_used(starts: Iterable[Place], project: Path = PROJECT) -> set[Place]:
    """Returns the places of definitions and all that they use.

    Raises:
        ValueError: As in `digest_of`.
    """
    found: set[Place] = set()
    todo = list(starts)
    while todo:
        if (place := todo.pop()) not in found:
            found.add(place)
            todo += _definition(project, *place).uses.values()
    return found


# ---------------------------------------------------------------- one definition


@dataclass(frozen=True)
class _Definition:
    text: str
    uses: dict[str, Place]


@cache
def _definition(project: Path, module: str, name: str) -> _Definition:
    nodes, methods = _nodes(project, module, name)
    imports = _read(project, module).imports | _imports(project, module, nodes)
    uses, members = {}, {}
    for node in (inner for outer in nodes for inner in _walk(outer)):
        if isinstance(node, ast.Attribute):  # comes before what it is an attribute of
            members[node.value] = node.attr
            if node.attr in methods:
                uses[node.attr] = (module, methods[node.attr])
        if isinstance(node, ast.Name) and (place := _find(project, module, node.id, imports)):
            key = node.id
            if node in members and _is_enum(_read(project, place[0]).statements[place[1]][0]):
                key += f".{members[node]}"
                place = (place[0], f"{place[1]}.{members[node]}")
            uses[key] = place
    return _Definition(str(_plain(nodes)), uses)


def _nodes(project: Path, module: str, name: str) -> tuple[list[ast.stmt], dict[str, str]]:
    """Returns the statements that define a name; for a method also the methods of its class.

    An enum member is defined by its class without the other members.
    """
    top, _, method = name.partition(".")
    nodes, methods = _read(project, module).statements.get(top, []), {}
    if method and nodes and _is_enum(nodes[0]):
        nodes = [_with_one_member(nodes[0], method)]
    elif method:
        named = {inner.name: inner for node in nodes for inner in node.body if _is_named(inner)}
        nodes = [named[method]] if method in named else []
        methods = {inner: f"{top}.{inner}" for inner in named}
    if not nodes:
        raise ValueError(f"{module} defines no {name}; expected it at the top or in a class there")
    return nodes, methods


def _find(project: Path, module: str, name: str, imports: dict[str, Place]) -> Place | None:
    """Returns where a name is defined, or None if it is local, built in, or from a library."""
    if name not in imports:
        return (module, name) if name in _read(project, module).statements else None
    source, original = imports[name]
    place = _find(project, source, original, _read(project, source).imports) if original else None
    if place is None:
        raise ValueError(
            f"{module} uses {name} of {source}, which is a module or is not there; expected "
            "`from <module> import <definition>`, which can be followed"
        )
    return place


# ---------------------------------------------------------------- one module


@dataclass(frozen=True)
class _Module:
    """The top level of a module.

    Attributes:
        statements: Name -> the statements that define or change it.
        imports: Name -> where it is imported from; the place of a module has the name "".
    """

    statements: dict[str, list[ast.stmt]]
    imports: dict[str, Place]


@cache
def _read(project: Path, module: str) -> _Module:
    body = ast.parse(_file(project, module).read_text("utf-8")).body
    others = [node for node in body if not _is_named(node)]
    statements = {node.name: [node] for node in body if _is_named(node)}
    stored = {name.id for name in _names(others) if isinstance(name.ctx, ast.Store)}
    defined = stored | set(statements)
    for node in others:
        # `TABLE = {}` changes only TABLE; `TABLE.update(more)` may change both names
        is_plain = isinstance(node, ast.Assign | ast.AnnAssign)
        targets = getattr(node, "targets", None) or [getattr(node, "target", node)]
        for name in {name.id for name in _names(targets if is_plain else [node])} & defined:
            statements.setdefault(name, []).append(node)
    return _Module(statements, _imports(project, module, others))


def _names(nodes: Iterable[ast.AST]) -> Iterator[ast.Name]:
    return (inner for node in nodes for inner in _walk(node) if isinstance(inner, ast.Name))


def _file(project: Path, module: str) -> Path:
    path = project.joinpath(*module.split("."))
    file = path.with_suffix(".py")
    return file if file.is_file() else path / "__init__.py"


def _imports(project: Path, module: str, nodes: Iterable[ast.AST]) -> dict[str, Place]:
    """Returns name -> place of all imports from this project, at any depth."""
    found: dict[str, Place] = {}
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (alias.name, "")
        if isinstance(node, ast.ImportFrom):
            n_up = node.level - (_file(project, module).name == "__init__.py")
            parents = module.split(".")[: -n_up or None] if node.level else []
            source = ".".join([*parents, *filter(None, [node.module])])
            found |= {alias.asname or alias.name: (source, alias.name) for alias in node.names}
    ours = {name: place for name, place in found.items() if place[0].split(".")[0] in PACKAGES}
    if "*" in ours:
        raise ValueError(f"{module} imports *; expected the names, which can be followed")
    return ours


def _is_named(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _is_enum(node: ast.AST) -> bool:
    bases = node.bases if isinstance(node, ast.ClassDef) else []
    return any(ast.unparse(base).endswith("Enum") for base in bases)


def _with_one_member(enum: ast.ClassDef, member: str) -> ast.ClassDef:
    body = [
        node
        for node in enum.body
        if not isinstance(node, ast.Assign) or ast.unparse(node.targets[0]) == member
    ]
    return ast.ClassDef(enum.name, enum.bases, enum.keywords, body, enum.decorator_list)


# ---------------------------------------------------------------- syntax


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yields the fields of a node that affect what is computed."""
    for name, value in ast.iter_fields(node):
        if isinstance(value, list):
            value = [each for each in value if not _is_silent(each)]
        if name not in _NOT_COMPUTED and value not in (None, []):
            yield name, value


def _is_silent(node: Any) -> bool:
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_docstring or isinstance(node, ast.Import | ast.ImportFrom)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for _, value in _fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)


def _plain(node: Any) -> Any:
    """Returns a node as nested lists, which are the same in all Python versions."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, ast.AST):
        return node
    if isinstance(node, ast.AnnAssign):
        node = ast.Assign(targets=[node.target], value=node.value)
    plain = [type(node).__name__, *([name, _plain(value)] for name, value in _fields(node))]
    if isinstance(node, ast.ClassDef):  # annotations define the fields of a dataclass
        plain.append([each.target.id for each in node.body if isinstance(each, ast.AnnAssign)])
    return plain
