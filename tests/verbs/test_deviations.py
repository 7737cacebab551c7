"""The table of deviations, the tests that show them, and the page: held together."""

import re

import pytest

from tests.verbs.deviations import PAGE, ROOT, load, page


def _asked() -> set[str]:
    """Every deviation that a test of a rule asks for."""
    found: set[str] = set()
    for path in (ROOT / "tests" / "device").glob("test_rules_*.py"):
        found |= set(re.findall(r'world\.deviates\("([^"]+)"\)', path.read_text()))
    return found


def test_every_row_is_asked_for_and_every_question_has_a_row() -> None:
    assert set(load()) == _asked()


@pytest.mark.parametrize("name", load())
def test_the_test_that_a_row_names_asks_for_it(name: str) -> None:
    row = load()[name]
    path, _, function = row.test.partition("::")
    source = (ROOT / path).read_text()
    _, found, rest = source.partition(f"def {function}(world: World")
    assert found, f"{row.test} is not there"
    body = rest.partition("\ndef ")[0]
    question = f'world.deviates("{name}")'
    helpers = re.findall(r"def (_\w+)\(world: World.*?(?=\n\n\n)", source, re.DOTALL)
    asked = [
        helper for helper in helpers if question in source.partition(f"def {helper}(")[2].partition("\n\n\n")[0]
    ]
    assert question in body or any(f"{helper}(world" in body for helper in asked)
    assert re.fullmatch(r"R([1-9]|[1-3]\d|4[0-5])", row.rule)
    assert function.startswith(f"test_{row.rule.lower()}_")


def test_the_page_is_made_of_the_table() -> None:
    assert PAGE.read_text() == page(), "python -m tests.verbs.deviations"
