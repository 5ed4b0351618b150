import os
import stat
import tracemalloc

import numpy as np
import pytest

from tracking.formats import files
from tracking.formats.files import atomic_write, read_rows, refuse_repeats


def rows(path, separator=",", widths=()):
    return [row.fields for row in read_rows(path, separator, widths)]


def only_row(path):
    (row,) = read_rows(path, ",", None)
    return row


def test_rows_pass_over_blank_lines_and_know_their_own_line(written):
    path = written('\ufeffa, b\r\n\r\n  \nc," d,e "')
    got = [(row.line, row.fields) for row in read_rows(path, ",")]
    assert got == [(1, ["a", "b"]), (4, ["c", "d,e"])]


def test_white_space_separates_when_no_separator_is_given(written):
    assert rows(written("1  2\t3 \n"), None) == [["1", "2", "3"]]


@pytest.mark.parametrize(
    ("content", "line", "came"),
    [
        (b"1,2\n1\xff,2\n", 2, "0xff is not UTF-8"),
        ("time\n".encode("utf-16"), 1, "is not UTF-8"),
        (b"1,2\n\x00\x00,\n", 2, "a zero byte"),
        (b"1,2\n1,2,3\n", 2, "3 columns; accepted are 2"),
        (b'1,2\n"1,2\n', 2, "cannot be cut"),
        (b"1,2\n1\r2,2\n", 2, "cannot be cut"),
        (b"1,2\n" + b"7" * files.MAX_LINE + b"\n", 2, "without a line end"),
    ],
)
def test_what_is_not_a_table_is_named_with_its_line(written, content, line, came):
    path = written(content)
    with pytest.raises(ValueError, match=came) as error:
        rows(path)
    assert str(error.value).startswith(f"{path}:{line}: ")


def test_first_row_must_have_an_accepted_width(written):
    with pytest.raises(ValueError, match=":1: 2 columns; accepted are 3 or 5"):
        rows(written("1,2\n"), ",", (3, 5))


def test_endless_files_end_in_an_error(written, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINES", 3)
    assert len(rows(written("1\n1\n1\n"))) == 3
    with pytest.raises(ValueError, match=":4: the file goes on; accepted are 3 lines"):
        rows(written("\n\n\n\n"))
    monkeypatch.setattr(files, "MAX_CELLS", 5)
    with pytest.raises(ValueError, match=":3: the file goes on; accepted are 5 fields"):
        rows(written("1,2\n3,4\n5,6\n"))


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_an_endless_line_takes_no_memory():
    tracemalloc.start()
    with pytest.raises(ValueError, match="/dev/zero:1: more than"):
        rows("/dev/zero")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_missing_file_stays_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        rows(tmp_path / "none.txt")


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("+7", 7), ("7.0", 7), ("7e0", 7), ("-1", -1)])
def test_whole_numbers(written, text, value):
    assert only_row(written(text)).integer(0, "frame", -1, 9) == value


@pytest.mark.parametrize(
    "text",
    ["10", "-2", "7.5", "nan", "inf", "1e400", "x", '""', "1_0", "٣", "0x7", "9" * 5000, "9" * 400 + ".0"],
)
def test_what_is_not_a_whole_number_in_range(written, text):
    with pytest.raises(ValueError, match=r":1: frame is .*; accepted are whole numbers from -1 to 9$"):
        only_row(written(text)).integer(0, "frame", -1, 9)


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "1e400", "x", '""', "1_0", "٣", "1.0.0", "0x7", "None"]
)
def test_what_is_not_a_finite_number(written, text):
    with pytest.raises(ValueError, match=r":1: x is .*; accepted are finite numbers$"):
        only_row(written(text)).number(0, "x")


def test_number_out_of_range_names_the_range(written):
    with pytest.raises(ValueError, match=r"p is '1\.5'; accepted are finite numbers from 0 to 1"):
        only_row(written("1.5")).number(0, "p", 0, 1)
    with pytest.raises(ValueError, match="b is '-11'; accepted are finite numbers from -10 to 10"):
        only_row(written("10,-11")).numbers(0, ("a", "b"), 10)


def test_messages_stay_short(written):
    with pytest.raises(ValueError, match="x is") as error:
        only_row(written("x" * 16_000)).number(0, "x")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("text", ['""', "x" * 33, "a\x07b"])
def test_words_are_short_and_printable(written, text):
    with pytest.raises(ValueError, match="class is"):
        only_row(written(text)).word(0, "class")


def test_repeats_are_refused_with_the_line_of_the_second():
    line, scan, label = np.array([1, 2, 5, 9]), np.array([0, 1, 1, 1]), np.array([3, 3, -1, -1])
    refuse_repeats("f", line, scan, label)
    with pytest.raises(ValueError, match=r"^f:9: id 3 comes again"):
        refuse_repeats("f", line, scan, np.array([3, 3, 4, 3]))


def test_atomic_write_replaces_the_old_file(tmp_path, synced):
    path = tmp_path / "out.txt"
    path.write_text("old")
    before = len(synced)
    with atomic_write(path) as file:
        file.write("é\n")
        assert path.read_text() == "old"
    assert path.read_bytes() == "é\n".encode()
    assert os.listdir(tmp_path) == ["out.txt"]
    assert len(synced) - before == (2 if os.name == "posix" else 1)  # the file, then its folder


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_an_exception_leaves_what_was_there(tmp_path, old, error):
    path = tmp_path / "out.txt"
    if old is not None:
        path.write_text(old)

    def interrupted():
        with atomic_write(path) as file:
            file.write("half")
            file.flush()
            raise error

    with pytest.raises(error):
        interrupted()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == ({} if old is None else {"out.txt": old})


def test_a_failed_replace_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("disk")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk"), atomic_write(tmp_path / "out.txt") as file:
        file.write("x")
    assert list(tmp_path.iterdir()) == []


def test_binary_files_too(tmp_path):
    with atomic_write(tmp_path / "b", binary=True) as file:
        file.write(b"\x00\xff")
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"


@pytest.mark.skipif(os.name != "posix", reason="permissions and links as on POSIX")
def test_permissions_and_links_are_kept(tmp_path):
    path, link = tmp_path / "out.txt", tmp_path / "link.txt"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    with atomic_write(link) as file:
        file.write("new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_new_files_have_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    with atomic_write(tmp_path / "new") as file:
        file.write("")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_folders_and_devices_are_not_replaced(tmp_path):
    for path in (tmp_path, "/dev/null"):
        with pytest.raises(ValueError, match="not an ordinary file"), atomic_write(path):
            pass
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "none" / "out.txt"):
        pass
