"""Types of values, and options of several verbs. Imports only click."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    NumberType = click.ParamType[int]
else:
    NumberType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])

NUMBER = re.compile(r"(?:0[xX]([0-9a-fA-F]{1,16})|([0-9]{1,20}))([kKmMgG]?)")
UNITS = {"": 0, "k": 10, "m": 20, "g": 30}
LIMIT = 1 << 64


class FileType(click.Path):
    """A file name, which must not be empty: an unset variable of a script would be the current
    folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not os.fspath(value):
            self.fail("a file name must not be empty", param, ctx)
        return Path(os.fsdecode(super().convert(value, param, ctx)))


PATH = FileType(path_type=Path)


class ChoiceType(click.Choice):  # type: ignore[type-arg]  # not generic before click 8.2
    """One of several words. For another word, the most similar one is suggested."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            from pykexec.cli.nearest import did_you_mean

            near = did_you_mean(str(value), map(str, self.choices))
            self.fail(error.message.rstrip(".") + near, param, ctx)


def choice(*words: str) -> ChoiceType:
    return ChoiceType(words)


class AddrType(NumberType):
    """A physical address: decimal or 0x hex, with suffix K, M or G; 64 bits."""

    name = "addr"
    lowest = 0

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = NUMBER.fullmatch(value)
        if not match:
            self.fail(f"{value!r}: expected decimal or 0x hex, with an optional suffix K, M or G")
        number = int(match[1], 16) if match[1] else int(match[2])
        number <<= UNITS[match[3].lower()]
        if number >= LIMIT:
            self.fail(f"{value!r} has more than 64 bits")
        if number < self.lowest:
            self.fail(f"{value!r}: a size is at least {self.lowest}")
        return number


class SizeType(AddrType):
    """Bytes, at least one, in the same syntax as an address."""

    name = "size"
    lowest = 1


ADDR = AddrType()
SIZE = SizeType()


class Verb(click.Command):
    """A command whose single-value options may be given only once: the last one does not silently
    override others. /etc/pykexec.conf has the default of --backend, except for a simulated
    machine."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        default = ctx.get_parameter_source("backend") is click.core.ParameterSource.DEFAULT
        if default and ctx.params["machine_dir"] is None and not ctx.resilient_parsing:
            from pykexec.host.configuration import configured_backend

            ctx.params["backend"] = configured_backend()
        return rest

    def make_parser(self, ctx: click.Context) -> Any:
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_once(args: list[str]) -> Any:
            values, rest, order = parse(args)
            for param in order:
                if _is_single(param) and order.count(param) > 1:
                    raise click.UsageError(f"option {param.opts[-1]!r} is given twice", ctx)
            return values, rest, order

        parser.parse_args = parse_once  # type: ignore[method-assign]
        return parser


def _is_single(param: click.Parameter) -> bool:
    """Whether it takes a single value."""
    return isinstance(param, click.Option) and not (param.multiple or param.count or param.is_flag)


def machine_option(command: F) -> F:
    return click.option(
        "--machine",
        "machine_dir",
        metavar="DIR",
        type=PATH,
        help="Use the simulated machine in DIR (see machine create).",
    )(command)


def config_option(command: F) -> F:
    return click.option(
        "--config", type=PATH, metavar="FILE", help="Read FILE instead of /etc/pykexec.conf."
    )(command)


def profile_option(command: F) -> F:
    return click.option(
        "--profile",
        type=click.IntRange(min=0),
        metavar="N",
        help="Use profile N of a unified kernel image, instead of 0.",
    )(command)


def target_options(command: F) -> F:
    """--backend and --machine."""
    return click.option(
        "--backend",
        type=choice("simulated", "kernel"),
        default="simulated",
        show_default=True,
        envvar="PYKEXEC_BACKEND",
        show_envvar=True,
        help="Act on the simulated or the real kernel; BACKEND= of /etc/pykexec.conf overrides "
        "the default.",
    )(machine_option(command))


def output_options(command: F) -> F:
    """--json and -v, last in --help."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(
        command
    )
    return click.option("-v", "--verbose", count=True, help="Show the reasons as well.")(command)


def frames_options(command: F) -> F:
    """Options for a new machine: the use of its frames, and the behaviour of its kernel."""
    options = (
        click.option(
            "--seed", type=int, default=0, show_default=True, help="Seed for the memory layout."
        ),
        click.option(
            "--used",
            type=click.IntRange(0, 100),
            default=40,
            show_default=True,
            metavar="PERCENT",
            help="Share of the machine's memory that is in use.",
        ),
        click.option(
            "--allocator",
            type=choice("random", "lowest", "highest", "fragmented"),
            default="random",
            show_default=True,
            help="Choose which free pages the simulated kernel allocates.",
        ),
        click.option(
            "--relocate",
            type=choice("swap", "copy"),
            default="swap",
            show_default=True,
            help="Let the simulated kernel exchange pages at a kexec, or copy them.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
