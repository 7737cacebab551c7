"""The errors of pyverbs: same names, same messages, same attributes (module pyverbs.pyverbs_error)."""

from __future__ import annotations

import os
from typing import Any


class PyverbsError(Exception):
    """Base of all errors; `error_code` is an errno, or -1 for none."""

    def __init__(self, msg: str, error_code: int = -1) -> None:
        if error_code != -1:
            msg = f"{msg}. Errno: {error_code}, {os.strerror(error_code)}"
        super().__init__(msg)

    def __reduce__(self) -> Any:
        """Made again as it is: the message has the errno's words already."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[PyverbsError], args: tuple[Any, ...], state: dict[str, Any]) -> PyverbsError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class PyverbsRDMAError(PyverbsError):
    """A verbs call failed; `error_code` says how."""

    def __init__(self, msg: str, error_code: int = -1) -> None:
        super().__init__(msg, error_code)
        self._error_code = error_code

    @property
    def error_code(self) -> int:
        """The errno of the failed call, -1 when it set none."""
        return self._error_code


class PyverbsUserError(PyverbsError):
    """The caller's own mistake, found before any verbs call."""

    def __init__(self, msg: str) -> None:
        super().__init__(msg)
