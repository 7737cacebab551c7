"""The command ``simmig``: its subcommands, and what becomes of errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

import simmig
from simmig.cli.advise import advise
from simmig.cli.calibrate import calibrate
from simmig.cli.compare import compare
from simmig.cli.demo import demo
from simmig.cli.ends import receive, send
from simmig.cli.explain import explain, schema
from simmig.cli.init import init
from simmig.cli.lab import lab
from simmig.cli.observe import observe
from simmig.cli.plot import plot
from simmig.cli.predict import predict
from simmig.cli.process import forget_output, let_go, require_standard_files, tell_failed, tidy_ends
from simmig.cli.pyverbs import pyverbs
from simmig.cli.run import run
from simmig.cli.sweep import sweep
from simmig.cli.verify import verify
from simmig.experiment.errors import InputError

BAD_INPUT = 2
INTERRUPTED = 130


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `simmig init`, which lists the scenarios, and `simmig run quickstart`; "
    "`simmig explain WORD` says what a key, a policy or a figure is. "
    "Exit status: 0 completed, 1 the migration failed or an invariant broke, 2 bad input.",
)
@click.version_option(simmig.__version__, prog_name="simmig")
def cli() -> None:
    """Simulate live migration over RDMA: when to wait for what was posted, on which link, with which guest."""


cli.add_command(init)
cli.add_command(run)
cli.add_command(send)
cli.add_command(receive)
cli.add_command(observe)
cli.add_command(compare)
cli.add_command(calibrate)
cli.add_command(lab)
cli.add_command(pyverbs)
cli.add_command(predict)
cli.add_command(sweep)
cli.add_command(plot)
cli.add_command(advise)
cli.add_command(demo)
cli.add_command(verify)
cli.add_command(explain)
cli.add_command(schema)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status."""
    with tidy_ends() as ended:
        status = _main(arguments)
    return status if ended.status is None else ended.status


def _main(arguments: Sequence[str] | None) -> int:
    try:
        require_standard_files()
        status = cli.main(arguments, prog_name="simmig", standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        for problem in error.problems:
            click.echo(f"simmig: {problem}", err=True)
        return BAD_INPUT
    except click.ClickException as error:
        error.show()
        return BAD_INPUT
    except (click.Abort, KeyboardInterrupt) as interrupt:
        let_go(interrupt)
        click.echo("simmig: interrupted, nothing was written", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        forget_output()  # the reader has left: say no more
        return 1
    except (OSError, MemoryError) as error:
        tell_failed(error)
        return BAD_INPUT
    return int(status or 0)
