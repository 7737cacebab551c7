"""The table of deviations, the tests that show them, and the page: held together."""

import re

import pytest

from tests.verbs.deviations import PAGE, ROOT, Deviation, load, page


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


@pytest.mark.parametrize(
    ("kernel", "gone", "release", "deviates"),
    [
        ("6.1", "", "6.1.0-56-amd64", True),
        ("6.1", "", "6.12.95+deb12-amd64", True),
        ("6.1", "", "5.15.0-generic", True),
        ("6.1", "6.12", "6.1.0-56-amd64", True),
        ("6.1", "6.12", "6.12.95+deb12-amd64", False),
        ("6.1", "6.12", "6.9.0", True),
        ("6.12", "", "6.1.0-56-amd64", False),
        ("6.12", "", "6.18.44-custom", True),
    ],
)
def test_a_kernel_is_judged_like_the_newest_before_it_that_was_asked(
    kernel: str, gone: str, release: str, deviates: bool
) -> None:
    assert Deviation("R1", "", "", kernel, False, "", gone).on(release) is deviates
