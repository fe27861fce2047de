"""Define ``deepfake-detect serve``: answer requests over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepfake_detect.cli.options import DEFAULT_MODEL, FILE, device_option

if TYPE_CHECKING:
    from deepfake_detect.serve.settings import Limits


@click.command()
@click.option("--host", metavar="H", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", metavar="P", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one."
)
@click.option(
    "--model",
    "models",
    metavar="M",
    multiple=True,
    help=f"Packaged name, folder, or owner/name on the Hub; may be repeated. [default: {DEFAULT_MODEL}]",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes, each with a copy of the models.",
)
@click.option("--threads", metavar="N", type=click.IntRange(1, 256), help="Threads of each process.")
@click.option("--keys", metavar="FILE", type=FILE, help="API keys, one a line; also DEEPFAKE_DETECT_API_KEYS.")
@click.option("--open", "open_to_all", is_flag=True, help="Serve without keys on an address that others can reach.")
@click.option("--origin", "origins", metavar="URL", multiple=True, help="Web origin whose pages may use the server.")
@click.option("--name", "hosts", metavar="NAME", multiple=True, help="Host name the server may be addressed by.")
@click.option("--no-urls", is_flag=True, help="Take no addresses of pictures, only files.")
@click.option(
    "--limit", "limits", metavar="NAME=N", multiple=True, help="Change a limit, such as queue=64; see the docs."
)
@click.option(
    "--stop-seconds", metavar="S", type=click.FloatRange(0), default=30, show_default=True, help="Time to stop."
)
@device_option
def command(
    host: str,
    port: int,
    models: tuple[str, ...],
    workers: int,
    threads: int | None,
    keys: Path | None,
    open_to_all: bool,
    origins: tuple[str, ...],
    hosts: tuple[str, ...],
    no_urls: bool,
    limits: tuple[str, ...],
    stop_seconds: float,
    device: str,
) -> None:
    """Answer requests over HTTP: verdicts, explanations, stability, metadata and videos.

    The page /docs of the server lists them. Ctrl-C stops it, once what was accepted is done.
    """
    from deepfake_detect.cli.console import write_line
    from deepfake_detect.serve.processes import require_server, run_server
    from deepfake_detect.serve.settings import ServeSettings, collect_keys
    from deepfake_detect.weights.bundle import find_bundle

    require_server()
    settings = ServeSettings(
        models=models or (DEFAULT_MODEL,),
        device=device,
        host=host,
        port=port,
        workers=workers,
        threads=threads,
        limits=_limits(limits),
        keys=collect_keys(keys, host=host, open_to_all=open_to_all),
        origins=origins,
        hosts=hosts,
        fetch_urls=not no_urls,
        stop_seconds=stop_seconds,
    )
    for model in settings.models:
        find_bundle(model)  # a wrong name is an error now, not in the workers
    names = ", ".join(settings.models)
    sys.exit(run_server(settings, announce=lambda url: write_line(f"{names} on {url}, documented at {url}/docs")))


def _limits(changes: tuple[str, ...]) -> Limits:
    from dataclasses import fields

    from deepfake_detect.errors import nearest
    from deepfake_detect.serve.settings import Limits

    kinds = {field.name: float if field.name.endswith("seconds") else int for field in fields(Limits)}
    values: dict[str, int | float] = {}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in kinds:
            raise click.UsageError(f"--limit {change}: no such limit{nearest(name, kinds)}")
        try:
            values[name] = kinds[name](text.replace("_", ""))
        except ValueError:
            raise click.UsageError(f"--limit {change}: expected a number after {name}=") from None
    return Limits(**values)  # type: ignore[arg-type]
