"""What is wrong with what the user gave us, said so that it can be put right."""

from __future__ import annotations


class InputError(Exception):
    """Bad input: a scenario, a model, a policy, a file or an option. The command line turns it into exit status 2.

    Attributes:
        problems: one line each, naming the place (file, key or option), what is wrong and what would be right.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
