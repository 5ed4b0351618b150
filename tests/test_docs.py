"""Everything public says what it is: read from the source, so nothing needs to be importable."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tracking", "perception", "sims", "adapt")
MODULES = sorted(
    p.relative_to(ROOT).as_posix() for package in PACKAGES for p in (ROOT / package).rglob("*.py")
)
TREES = {name: ast.parse((ROOT / name).read_text()) for name in MODULES}
FEWEST_WORDS = 2
FIRST_LINE = 110


def classes():
    """All classes by name; names are unique enough to find a base."""
    return {
        node.name: node for tree in TREES.values() for node in tree.body if isinstance(node, ast.ClassDef)
    }


CLASSES = classes()


def base_names(node):
    return [base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases]


def bases(node):
    """The class and everything it inherits from, as far as the package defines it."""
    found, queue = [], [node]
    while queue:
        found.append(queue.pop())
        queue += [CLASSES[name] for name in base_names(found[-1]) if name in CLASSES]
    return found


def members(node):
    return {m.name: m for m in node.body if isinstance(m, ast.FunctionDef)}


def documented_above(node, method):
    """Whether a base, or a protocol whose methods the class has, documents the method."""
    mine = set().union(*(members(c) for c in bases(node)))
    protocols = [c for c in CLASSES.values() if "Protocol" in base_names(c) and set(members(c)) <= mine]
    others = [*bases(node)[1:], *protocols]
    return any(method in members(c) and ast.get_docstring(members(c)[method]) for c in others)


def is_property(function):
    return any("property" in ast.unparse(d) for d in function.decorator_list)


def undocumented(tree):
    """Public names of a module that say nothing, or too little."""
    for node in tree.body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)) or node.name.startswith("_"):
            continue
        if too_short(node):
            yield node.name
        for name, method in members(node).items() if isinstance(node, ast.ClassDef) else ():
            silent = ast.get_docstring(method) is None
            excused = silent and (is_property(method) or documented_above(node, name))
            if not name.startswith("_") and not excused and too_short(method):
                yield f"{node.name}.{name}"


def too_short(node):
    doc = ast.get_docstring(node)
    return doc is None or len(doc.split()) < FEWEST_WORDS


@pytest.mark.parametrize("name", MODULES)
def test_module_says_what_it_is_for(name):
    doc = ast.get_docstring(TREES[name])
    assert doc, f"{name} has no docstring"
    assert len(doc.split()) >= 4, f"{name}: {doc!r}"


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_documented(name):
    assert list(undocumented(TREES[name])) == []


@pytest.mark.parametrize("name", MODULES)
def test_first_lines_stand_alone(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and (doc := ast.get_docstring(node)):
            first, *rest = doc.splitlines()
            assert len(first) <= FIRST_LINE, f"{name}: {node.name}: {first!r}"
            assert not rest or rest[0] == "" or first[-1] in ":,", f"{name}: {node.name} runs on: {first!r}"


@pytest.mark.parametrize("name", MODULES)
def test_documented_arguments_exist(name):
    """`Args:` names what the signature, or the fields of the dataclass, name."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and (doc := ast.get_docstring(node)):
            missing = documented(doc) - accepted(node)
            assert not missing, f"{name}: {node.name} documents {sorted(missing)}, which it does not take"


def documented(doc):
    """Names in the `Args:` section: the words before the colon on its least indented lines."""
    lines = doc.splitlines()
    if "Args:" not in [line.strip() for line in lines]:
        return set()
    start = [line.strip() for line in lines].index("Args:") + 1
    names = set()
    for line in lines[start:]:
        if line.strip() and not line.startswith("    "):
            break
        if line.startswith("    ") and not line.startswith("     ") and ":" in line:
            names |= {word.strip() for word in line.split(":")[0].split(",")}
    return names


def accepted(node):
    if isinstance(node, ast.ClassDef):
        fields = {
            item.target.id
            for c in bases(node)
            for item in c.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        init = next((members(c)["__init__"] for c in bases(node) if "__init__" in members(c)), None)
        return fields | (accepted(init) if init else set())
    a = node.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return {argument.arg for argument in every}


def test_the_public_names_exist_and_are_sorted_out():
    """`tracking.__all__` lists what `tracking` imports, each once."""
    tree = TREES["tracking/__init__.py"]
    imported = [a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names]
    listed = [
        ast.literal_eval(n.value)
        for n in tree.body
        if isinstance(n, ast.Assign) and n.targets[0].id == "__all__"
    ]
    if imported:
        assert sorted(listed[0]) == sorted(imported)
        assert len(set(listed[0])) == len(listed[0])
