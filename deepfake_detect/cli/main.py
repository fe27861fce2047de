"""Define the command line ``deepfake-detect`` and load each command when it is used.

A command is a module ``cli/command_NAME.py`` that holds a click command called ``command``; it needs no registration
beyond its file. Only the modules that a call needs are imported, so that ``--help`` takes a small part of a second.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import Any

import click

from deepfake_detect import cli
from deepfake_detect._version import __version__
from deepfake_detect.cli.options import EXIT_STATUS
from deepfake_detect.errors import DeepfakeDetectError, InvalidOption, LayerNotFound, UnknownModel, UnknownWeights
from deepfake_detect.system.malloc import keep_freed_memory

SECTIONS = {
    "Pictures and videos": (
        *("predict", "classify", "video", "explain", "stability", "faces", "metadata", "sheet", "report", "verify"),
    ),
    "Training and evaluation": ("audit", "train", "fine-tune", "tune", "evaluate", "calibrate"),
    "Models": ("models", "download", "export", "doctor"),
    "Services": ("demo", "serve", "mcp"),
}
"""Headings of ``--help`` and the commands below each; a command that is named nowhere stands under "Other"."""

_PREFIX = "command_"
_SUMMARY_LENGTH = 100  # characters; longer first sentences are cut


class CommandLine(click.Group):
    """Find commands by the files of this package, and turn our errors into one line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names of all commands, in the order of `SECTIONS`."""
        files = (module.name for module in pkgutil.iter_modules(cli.__path__))
        names = {file.removeprefix(_PREFIX).replace("_", "-") for file in files if file.startswith(_PREFIX)}
        ordered = [name for section in SECTIONS.values() for name in section if name in names]
        return [*ordered, *sorted(names - set(ordered))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command; None where there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"deepfake_detect.cli.{_PREFIX}{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands below the headings of `SECTIONS`."""
        left = self.list_commands(ctx)
        for heading, names in [*SECTIONS.items(), ("Other", tuple(left))]:
            rows = [(name, self._summary(ctx, name)) for name in left if name in names]
            left = [name for name in left if name not in names]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **options: Any) -> click.Context:
        """Print without colours where the environment variable NO_COLOR asks for it (https://no-color.org)."""
        if os.environ.get("NO_COLOR"):
            options["color"] = False
        return super().make_context(info_name, args, *rest, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was given; its process keeps freed memory."""
        keep_freed_memory()
        try:
            return super().invoke(ctx)
        except (InvalidOption, LayerNotFound, UnknownModel, UnknownWeights) as error:
            raise click.UsageError(str(error)) from None
        except DeepfakeDetectError as error:
            raise click.ClickException(f"{type(error).__name__}: {error}") from None
        except KeyboardInterrupt:
            ctx.exit(130)

    def _summary(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(_SUMMARY_LENGTH) if command else ""


main = CommandLine(
    name="deepfake-detect",
    help="Tell how likely the faces in pictures and videos are deepfakes.",
    epilog=EXIT_STATUS,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
"""The program: call it without arguments to run what ``sys.argv`` says."""
main = click.version_option(__version__, prog_name="deepfake-detect")(main)
