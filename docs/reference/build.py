"""Build the API reference from the docstrings with pdoc: `make api`, then open build/api/index.html.

Modules whose extra is not installed are named on standard error and left out.
"""

import importlib
import pkgutil
import re
import sys
import warnings
from pathlib import Path

import pdoc
from jinja2 import pass_context
from jinja2.runtime import Context
from pdoc.render_helpers import to_markdown_with_context

PACKAGES = ("tracking", "perception", "adapt", "sims")
# "gate: squared distance ...", as our docstrings describe arguments and fields, a line each
FIELDS = re.compile(r"^((?:[a-z]\w*, )*[a-z]\w*): ", re.MULTILINE)


def names(package: str) -> list[str]:
    """A package and all modules in it that a program imports."""
    found = pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    return [package, *(m.name for m in found if not m.name.endswith("__main__"))]


def importable(name: str) -> bool:
    """Whether a module imports; brings the names that a package imports when they are asked for."""
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        print(f"{name} is left out: {error}", file=sys.stderr)
        return False
    for public in getattr(module, "__all__", ()):
        vars(module).setdefault(public, getattr(module, public))
    return True


@pass_context
def markdown(context: Context, docstring: str) -> str:
    """A docstring as pdoc takes it: fields become a list."""
    return to_markdown_with_context(context, FIELDS.sub(r"- **\1**: ", docstring))


def main(folder: Path) -> None:
    """Write a page for every module."""
    modules = [name for package in PACKAGES for name in names(package) if importable(name)]
    pdoc.render.env.filters["to_markdown"] = markdown
    pdoc.render.configure(show_source=False, footer_text="multitarget-toolkit")
    warnings.filterwarnings(
        "ignore", "The module specification"
    )  # pdoc walks packages without __all__ itself
    pdoc.pdoc(*modules, output_directory=folder)
    print(f"{len(modules)} modules in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/api"))
