"""What is wrong with what the user gave us, said so that it can be put right."""

from __future__ import annotations

MAX_PROBLEMS = 20
_VALUE = 60
_PROBLEM = 500


class InputError(Exception):
    """Bad input: a scenario, a model, a policy, a file or an option. The command line turns it into exit status 2.

    Attributes:
        problems: one line each, naming the place (file, key or option), what is wrong and what would be right;
            of very many the first, and how many more there are.
    """

    def __init__(self, *problems: str) -> None:
        told = [_on_one_line(cut(problem, _PROBLEM)) for problem in problems[:MAX_PROBLEMS]]
        if len(problems) > MAX_PROBLEMS:
            told.append(f"and {len(problems) - MAX_PROBLEMS} problems more")
        super().__init__("\n".join(told))
        self.problems = tuple(told)


def shown(value: object) -> str:
    """A value as a message quotes it: cut to what fits on a line beside the rest."""
    try:
        return cut(repr(value), _VALUE)
    except (RecursionError, ValueError):  # a number of thousands of digits has no text
        return f"that {type(value).__name__}"


def cut(text: str, width: int = _VALUE) -> str:
    """The text; of a long one its beginning and its end."""
    if len(text) <= width:
        return text
    end = width // 3
    return f"{text[: width - end - 3]}...{text[-end:]}"


def _on_one_line(text: str) -> str:
    """Whatever a terminal might take for a command, a line's end among it, is spelled out."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "backslashreplace").decode() for each in text
    )
