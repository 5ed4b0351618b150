"""Names of recordings, by which their scores and results are told apart."""

import os
from pathlib import Path

OF_ALL = "ALL"  # the row of all recordings together


def distinct_names(paths) -> list[str]:
    """A name for each file, none of them twice.

    It is the name of the file without its suffix; files that share it are named after the nearest folders in
    which they differ: `MOT17-02/det/det.txt` and `MOT17-04/det/det.txt` are MOT17-02 and MOT17-04.

    Raises:
        ValueError: a file comes twice, or these names are not distinct either.
    """
    files = [Path(os.path.abspath(path)) for path in paths]
    names = [file.stem for file in files]
    for name in {name for name in names if names.count(name) > 1}:
        same = [i for i, file in enumerate(files) if file.stem == name]
        for i, folder in zip(same, _folders([files[i] for i in same])):
            names[i] = folder
    taken = [OF_ALL] if len(names) > 1 else []
    for name in names:
        if (names + taken).count(name) > 1:
            given = ", ".join(str(path) for path, it in zip(paths, names) if it == name)
            raise ValueError(
                f"{given}: called {name!r} in the results, as another recording or all of them together; "
                "recordings must have names of their own, rename a file or its folder"
            )
    return names


def _folders(files):
    """Names of the nearest folders that tell files apart, or else of their own."""
    for level in zip(*([folder.name for folder in file.parents] for file in files)):
        if len(set(level)) == len(level) and all(level):
            return level
    return [file.stem for file in files]
