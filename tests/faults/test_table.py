"""The table of faults in README.md names tests that exist, and every test of this folder is in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROW = re.compile(r"^\| (?P<fault>[^|]+) \| (?P<outcome>[^|]+) \| (?P<tests>[^|]+) \|$")


def rows() -> list[re.Match[str]]:
    lines = (HERE / "README.md").read_text(encoding="utf-8").splitlines()
    found = [match for line in lines if (match := ROW.match(line))]
    return [row for row in found if row["fault"].strip() not in ("fault", "---")]


def named() -> list[tuple[str, str]]:
    """The file and the function of every test in the table."""
    return [tuple(name.split("::")) for row in rows() for name in re.findall(r"`([^`]+)`", row["tests"])]  # type: ignore[misc]


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_row_names_tests_that_exist() -> None:
    assert len(rows()) > 30
    assert all(re.findall(r"`[^`]+`", row["tests"]) for row in rows())
    missing = [name for name in named() if name[1] not in functions_of(HERE.parent / name[0])]
    assert missing == []


def test_every_test_of_faults_is_in_the_table() -> None:
    known = set(named())
    files = [path for path in HERE.glob("test_*.py") if path.name != Path(__file__).name]
    assert {(f"faults/{path.name}", test) for path in files for test in functions_of(path)} - known == set()
