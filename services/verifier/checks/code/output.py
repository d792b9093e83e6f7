"""Whether a program printed what it should: trailing white space does not count. Pure."""

from __future__ import annotations


def same_output(found: bytes, expected: str) -> bool:
    """Line by line; blank lines at the end and white space at line ends do not count."""
    wanted = expected.rstrip().encode("utf-8", "surrogatepass")
    found = found.rstrip()
    if found.count(b"\n") != wanted.count(b"\n"):
        return False  # before it is split: a flood of lines costs nothing
    lines = zip(found.split(b"\n"), wanted.split(b"\n"), strict=True)
    return all(line.rstrip() == other.rstrip() for line, other in lines)
