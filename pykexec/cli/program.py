"""The group of all verbs, loaded lazily, and the only place where an error becomes a message or a
JSON document, and an exit status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import takewhile
from types import FrameType
from typing import Any, NoReturn

import click

from pykexec import __version__
from pykexec.cli.streams import INTERRUPTED, STDOUT, interrupted
from pykexec.errors import AnswerLost, KexecError

HUNG_UP, CLOSED_PIPE, TERMINATED = 129, 141, 143
"""The statuses of a shell for a process that SIGHUP, SIGPIPE or SIGTERM ended."""
HELP_WIDTH = 100
"""Maximum width of --help; click leaves two columns empty."""

VERBS = {
    "load": ("load", "Plan, check and load a kernel."),
    "unload": ("unload", "Unload an image and free its memory."),
    "exec": ("execute", "Start the loaded image."),
    "region": ("region", "Make, show and release a crash region at run time."),
    "status": ("status", "Show what is loaded."),
    "inspect": ("inspect", "Show what a file is and what it needs."),
    "rehearse": ("rehearse", "Try a crash dump from end to end, without touching this machine."),
    "machine": ("machine", "Manage simulated machines, and capture the facts of this one."),
    "fleet": ("fleet", "Plan for many machines, from facts that were captured on them."),
    "diff": ("diff", "Compare two plans."),
    "vmcore": (
        "vmcore",
        "Read a dump: its log, the cause of the crash, whether it is complete.",
    ),
    "save": ("save", "Save the crash dump of this capture kernel, and reboot."),
    "saved": ("saved", "Show the dumps that capture kernels have saved, oldest first."),
    "setup": ("setup", "Set this machine up to save crash dumps, or undo that."),
    "doctor": ("doctor", "Check whether this machine is ready, and show how to fix it."),
    "explain": ("explain", "Explain an errno of the kernel or an error code."),
}
"""Verb: its module in this package and its line in --help, so that --help does not need the
module."""


class Group(click.Group):
    """Commands of which one is required. Without one, print the help to standard error; the exit
    status of click is 0 or 2 then, depending on its version."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(click.UsageError.exit_code)
        return super().parse_args(ctx, args)


class Program(Group):
    """Imports a verb's module when that verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command: click.Command = import_module(f"pykexec.cli.verbs.{VERBS[name][0]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and args[0][:1].isalnum():
            from pykexec.cli.nearest import did_you_mean

            ctx.fail(f"no such command {args[0]!r}{did_you_mean(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Parse the command line; also prints --help and --version."""
        with _unread_is_quiet():
            return super().make_context(*args, terminal_width=_help_width(), **more)

    def invoke(self, ctx: click.Context) -> Any:
        with _unread_is_quiet():
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run, and always end the process (SystemExit)."""
        words = list(sys.argv[1:] if args is None else args)
        _end_in_order()
        try:
            status = super().main(words, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            sys.exit(_refuse_usage(error, words))
        except AnswerLost as error:
            sys.exit(_refuse(error, as_json=False))
        except KexecError as error:
            sys.exit(_refuse(error, _wants_json(words), _wants_details(words)))
        except BrokenPipeError:  # from completion, which is printed outside of any context
            sys.exit(_silence())
        except (click.Abort, KeyboardInterrupt):
            sys.exit(interrupted("pykexec", INTERRUPTED))
        except OSError as error:
            as_json = _wants_json(words) and error.filename != STDOUT
            sys.exit(_refuse(_system_fault(error), as_json))
        sys.exit(status if isinstance(status, int) else 0)


def _help_width() -> int:
    """Columns of --help, as by default in click, which uses shutil, whose import takes a tenth of
    the time of --help."""
    try:
        columns = int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(1).columns
    except (ValueError, OSError):
        columns = 0
    return max(min(columns or 80, HELP_WIDTH) - 2, 50)


@contextmanager
def _unread_is_quiet() -> Iterator[None]:
    """A closed pipe is not an error."""
    try:
        yield
    except BrokenPipeError:
        raise click.exceptions.Exit(_silence()) from None


def _end_in_order() -> None:
    """Handle signals like an interrupt, so that what is half done is undone. SIGHUP stays ignored
    under nohup(1)."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def _wants_json(words: Sequence[str]) -> bool:
    """Decided from the words, even if they cannot be parsed."""
    return "--json" in options(words)


def _wants_details(words: Sequence[str]) -> bool:
    """-v, -vv, --verbose."""
    return any(word == "--verbose" or set(word) == {"-", "v"} for word in options(words))


def options(words: Sequence[str]) -> Sequence[str]:
    """The words that can be options."""
    return words[: words.index("--")] if "--" in words else words


def _refuse_usage(error: click.ClickException, words: Sequence[str]) -> int:
    """Print click's own errors in the same form; exit status 2 (or its own)."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "pykexec"
    message = error.format_message().rstrip(".")
    hint = _usage_hint(error, words, path) or f"see {path} --help"
    fault = KexecError(message[:1].lower() + message[1:], hint=hint)
    fault.code, fault.exit_status = "usage", error.exit_code
    return _refuse(fault, _wants_json(words))


def _usage_hint(error: click.ClickException, words: Sequence[str], path: str) -> str | None:
    """The remedy for two frequent mistakes, in the command `path`."""
    if isinstance(error, click.NoSuchOption) and (name := _of_kexec8(error.option_name, path)):
        return f"see {path} --help; pykexec-kexec has the options of kexec(8), such as {name}"
    extra = isinstance(error, click.UsageError) and "unexpected extra argument" in error.message
    line = _split_append(options(words)) if extra else ""
    return f'put quotes around the words of --append: --append "{line}"' if line else None


def _of_kexec8(name: str, path: str) -> str | None:
    """The option of kexec(8) with this name. Before a verb, where pykexec has no others, any option
    is taken for one of kexec(8)."""
    from pykexec.cli.kexec8.options import BY_LONG, BY_SHORT

    known = name.lstrip("-") in (BY_LONG if name.startswith("--") else BY_SHORT)
    return name if known else "-l" if path == "pykexec" else None


def _split_append(words: Sequence[str]) -> str:
    """The words after an --append without quotes; "" if there are none."""
    for at, word in enumerate(words):
        if word == "--append":
            line = list(takewhile(lambda text: not text.startswith("-"), words[at + 1 :]))
            if len(line) > 1:
                return " ".join(line)
    return ""


def _system_fault(error: OSError) -> KexecError:
    """An unexpected error of the system, such as no space or too many open files."""
    what = str(error.filename) if error.filename else "the system refused"
    return KexecError(f"{what}: {(error.strerror or str(error)).lower()}", errno=error.errno)


def _refuse(error: KexecError, as_json: bool, details: bool = False) -> int:
    """Print the error, with details if requested, and return the exit status; uses stderr if the
    document cannot be written to stdout."""
    try:
        if as_json:
            from pykexec.cli.report.error import error_document
            from pykexec.documents.codec import encode

            click.echo(encode(error_document(error)), nl=False)
        else:
            from pykexec.cli.terms import PYKEXEC

            click.echo(f"pykexec: {error.message}", err=True)
            if hint := error.hint_in(PYKEXEC):
                click.echo(f"  hint: {hint}", err=True)
            for line in error.details if details else ():
                click.echo(f"  {line}", err=True)
        sys.stdout.flush()
    except BrokenPipeError:
        return _silence()
    except OSError:
        _silence()
        return _refuse(error, False, details) if as_json else error.exit_status
    return error.exit_status


def _silence() -> int:
    """The reader is gone: leave nothing for the interpreter to flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED_PIPE


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="pykexec", message="%(prog)s %(version)s")
def program() -> None:
    """Load kernels with kexec, and take crash dumps without reserved memory.

    Every load is planned and checked before anything happens. Commands act on a
    simulated kernel unless --backend kernel (or PYKEXEC_BACKEND=kernel) is given, or
    pykexec setup has selected the real one. See pykexec(8) for the whole manual.
    """
