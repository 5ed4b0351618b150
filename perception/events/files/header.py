"""Text at the head of a binary file: lines that begin with a mark, up to the first that does not."""

from typing import BinaryIO

MAX_HEADER = 1 << 20  # bytes


def read_header(file: BinaryIO, mark: bytes, end: bytes) -> tuple[list[str], int]:
    """Lines of the header and the byte after it.

    Records may begin with the byte of the mark, so that a line counts only if it is text. The line that
    begins with `end`, where a file has it, is the last.
    """
    lines, byte = [], 0
    file.seek(0)
    while byte < MAX_HEADER and (line := file.readline(4096)).startswith(mark):
        if not line.endswith(b"\n") or any((c < 32 and c not in b"\t\r\n") or c == 127 for c in line):
            break
        lines.append(line.decode("latin-1").strip())
        byte += len(line)
        if line.strip().startswith(end):
            break
    return lines, byte
