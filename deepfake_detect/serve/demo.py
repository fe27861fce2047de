"""Run the demo: a page on which pictures and videos are dropped, and their reports are read.

The page is Gradio's; what it shows of a picture is the page of `CaseReport`, in a frame without scripts. Nothing is
loaded from or sent to another server: Gradio's analytics are off, and a policy keeps the browser from it.
"""

from __future__ import annotations

import contextlib
import html
import os
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deepfake_detect.detector import Detector
from deepfake_detect.drawing.html import escape, paragraph
from deepfake_detect.drawing.result import file_stem
from deepfake_detect.errors import DeepfakeDetectError, InvalidOption, MissingExtra
from deepfake_detect.inputs.frames import VIDEO_SUFFIXES
from deepfake_detect.inputs.image import PICTURE_SUFFIXES
from deepfake_detect.predict.intake import hold_image
from deepfake_detect.provenance.inspector import MAX_FILE_BYTES
from deepfake_detect.serve.demo_video import save_video_page
from deepfake_detect.serve.processes import bind
from deepfake_detect.serve.settings import ServeSettings
from deepfake_detect.weights.bundle import list_pretrained

if TYPE_CHECKING:
    import gradio
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

EXAMPLES: Final = {"a photograph": "portrait.jpg", "a face swap": "portrait_fake.jpg"}
"""The example pictures of the page: what each shows, and its file."""

MOST_FILES: Final = 20
"""How many files are examined at once."""

POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
"""Content-Security-Policy of the page: nothing of another server; Gradio's own scripts need eval."""

_KEPT_S = 3600  # uploads and reports of a visitor who has left
_ELSEWHERE = re.compile(
    rb"""<link\b[^>]*\bhref=["'](?:https?:)?//[^>]*>|<script\b[^>]*\bsrc=["'](?:https?:)?//[^>]*>\s*</script>"""
)
_ENVIRONMENT = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False", "GRADIO_SSR_MODE": "False"}
_LEAD = (
    "Drop pictures or a video of faces. Each gets a verdict, why, whether it survives compression, what the file says "
    "of its origin, and what all that does not prove. Files stay on the machine that runs this page, and are deleted "
    "when it stops."
)
_STYLE = """
.gradio-container { max-width: 66rem !important; margin: 0 auto !important; padding: .8rem !important; }
footer { display: none !important; }
.report { width: 100%; border: 1px solid var(--border-color-primary); border-radius: .4rem; background: #fff;
  display: block; height: 40rem; margin: 0 0 1rem; }
.refused { border-left: .5rem solid #888; padding: .2rem 0 .2rem 1rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
"""
_FIT = (  # runs outside the frame, in which no script may
    "const frame=this,page=this.contentDocument.documentElement,fit=()=>frame.style.height=page.offsetHeight+2+'px';"
    "fit();new ResizeObserver(fit).observe(page)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """Settings of a demo.

    Attributes:
        model: Detector that is chosen at first: a packaged name, a folder, an ONNX file or a Hub repository.
        device: As for `Predictor`.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        share: Also open a public address through a tunnel of Gradio's: pictures then pass through its servers.
    """

    model: str = "xception-fakefaces"
    device: str = "auto"
    host: str = "127.0.0.1"
    port: int = 7860
    share: bool = False


class Demo:
    """The page and what it does with the files that are dropped on it.

    Args:
        settings: See `DemoSettings`.
        folder: Of uploads and reports; the caller deletes it.

    Raises:
        DeepfakeDetectError: The model cannot be loaded.
    """

    def __init__(self, settings: DemoSettings, *, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._lock, self._detectors = threading.Lock(), dict[str, Detector]()
        self._detector(self.models[0])  # a wrong name is an error now, not on the page

    @property
    def models(self) -> list[str]:
        """Names of the detectors to choose from; the page takes no others."""
        packaged = list_pretrained()
        first = next((name for name in reversed(packaged) if name.rpartition("@")[0] == self._settings.model), None)
        return list(dict.fromkeys([first or self._settings.model, *packaged]))

    def examine(self, files: Sequence[str] | None, model: str) -> Iterator[tuple[str, list[str]]]:
        """Write a report of each file.

        Args:
            files: Paths of pictures and videos.
            model: One of `models`.

        Yields:
            After each file: the HTML of all reports so far, and the paths of the files to download.
        """
        if not files:
            yield _refusal("No file", "Drop a picture or a video first, or take an example."), []
            return
        target, shown, saved = Path(tempfile.mkdtemp(dir=self._folder)), "", list[str]()
        for number, path in enumerate(files[:MOST_FILES]):
            stem = file_stem(path) if number == 0 else f"{file_stem(path)}-{number + 1}"
            try:
                page, written = self._report(path, model, target / stem)
            except DeepfakeDetectError as error:
                shown += _refusal(Path(path).name, str(error).replace(path, Path(path).name))
            else:
                shown, saved = shown + _frame(page, title=f"Report of {Path(path).name}"), saved + written
            yield shown, saved
        if len(files) > MOST_FILES:
            words = f"{len(files) - MOST_FILES} files were left out: at most {MOST_FILES} are examined at once."
            yield shown + _refusal("Too many files", words), saved

    def build(self) -> gradio.Blocks:
        """Build the page.

        Raises:
            MissingExtra: The extra ``[demo]`` is not installed.
        """
        require_demo()
        import gradio as gr

        models = self.models
        blocks: gradio.Blocks
        with gr.Blocks(title="deepfake-detect", analytics_enabled=False, delete_cache=(600, _KEPT_S)) as blocks:
            gr.HTML(f"<h1>deepfake-detect</h1>{paragraph(_LEAD)}")
            files = gr.File(
                label="Pictures or a video",
                file_count="multiple",
                file_types=sorted(PICTURE_SUFFIXES | VIDEO_SUFFIXES),
                height=150,
            )
            model = gr.Dropdown(models, value=models[0], label="Detector")
            button = gr.Button("Examine", variant="primary")
            examples = example_pictures()
            with gr.Row():
                taken = [gr.Button(f"Example: {words}", icon=str(path)) for words, path in examples.items()]
            page = gr.HTML(elem_id="reports")
            saved = gr.File(label="Evidence to download", file_count="multiple", interactive=False)
            results = [page, saved]
            button.click(self.examine, [files, model], results, api_visibility="private")
            for example, path in zip(taken, examples.values(), strict=True):
                example.click(_of_one(self.examine, path), [model], results, api_visibility="private")
        return blocks

    def _report(self, path: str, model: str, target: Path) -> tuple[str, list[str]]:
        """Write the report of a file, and return its page and the paths of what was written."""
        detector = self._detector(model)
        if Path(path).suffix.lower() in VIDEO_SUFFIXES:
            return save_video_page(detector, path, target)
        picture = hold_image(path)
        picture.name = Path(path).name  # without the folder of this server, which is nobody's business
        report = detector.report(picture)
        page = target.with_name(f"{target.name}.html")
        report.save(page)
        return report.to_html(), [str(page), str(page.with_suffix(".json"))]

    def _detector(self, name: str) -> Detector:
        if name not in self.models:
            raise InvalidOption(f"the detector {name!r} is none of {', '.join(self.models)}")
        with self._lock:
            if name not in self._detectors:
                self._detectors[name] = Detector.from_pretrained(name, device=self._settings.device)
            return self._detectors[name]


class LocalPage:
    """Middleware that keeps the page from loading anything of another server.

    Args:
        app: The application below.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; a page gets the policy, and loses its links to other servers."""
        if scope["type"] != "http" or scope["path"] != "/":
            await self._app(scope, receive, send)
            return
        from starlette.datastructures import MutableHeaders

        start: list[Message] = []
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.append(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            page = drop_other_servers(bytes(body))
            headers = MutableHeaders(scope=start[0])
            headers["content-security-policy"], headers["referrer-policy"] = POLICY, "no-referrer"
            headers["content-length"] = str(len(page))
            await send(start[0])
            await send({"type": "http.response.body", "body": page if scope["method"] != "HEAD" else b""})

        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        await self._app({**scope, "headers": plain}, receive, collect)


def drop_other_servers(page: bytes) -> bytes:
    """Remove the links and scripts of a page that lead to other servers.

    Example:
        >>> drop_other_servers(b'<script src="https://cdn.example/a.js" async></script><script src="./b.js"></script>')
        b'<script src="./b.js"></script>'
    """
    return _ELSEWHERE.sub(b"", page)


def require_demo() -> None:
    """Check that the extra ``[demo]`` is installed.

    Raises:
        MissingExtra: It is not.
    """
    try:
        with _environment(_ENVIRONMENT):
            import gradio  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"the demo needs {error.name or 'gradio'}; run: pip install 'deepfake-detect[demo]'"
        ) from error


def example_pictures() -> dict[str, Path]:
    """Return the example pictures by what they show: of the wheel, or of the checkout that runs in its place."""
    here = Path(__file__)
    folders = (here.with_name("examples"), here.parents[2] / "examples")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {words: folder / name for words, name in EXAMPLES.items() if (folder / name).is_file()}


@contextlib.contextmanager
def open_demo(settings: DemoSettings) -> Iterator[str]:
    """Serve the demo in threads of this process.

    Args:
        settings: See `DemoSettings`.

    Yields:
        The address, also that for everybody where one was asked for. Afterwards all files of the demo are deleted, and
        the environment is as it was.

    Raises:
        MissingExtra: The extra ``[demo]`` is not installed.
        InvalidOption: The address cannot be listened on.
        DeepfakeDetectError: The model cannot be loaded, or no public address can be had.
    """
    require_demo()
    from starlette.middleware import Middleware

    with (
        tempfile.TemporaryDirectory(prefix="deepfake-detect-demo-", ignore_cleanup_errors=True) as folder,
        _environment({**_ENVIRONMENT, "GRADIO_TEMP_DIR": folder}),
    ):
        port = _free_port(settings)
        blocks = Demo(settings, folder=Path(folder)).build()
        try:
            _, local, public = blocks.queue(max_size=64).launch(
                server_name=settings.host,
                server_port=port,
                share=settings.share,
                prevent_thread_lock=True,
                quiet=True,
                show_error=True,
                max_file_size=MAX_FILE_BYTES,
                ssr_mode=False,
                enable_monitoring=False,
                mcp_server=False,
                footer_links=[],
                theme=_theme(),
                css=_STYLE,
                app_kwargs={"middleware": [Middleware(LocalPage)]},
            )
            if settings.share and not public:
                raise DeepfakeDetectError("Gradio gave no public address; see above, or leave --share out")
            yield " and ".join(filter(None, (local.rstrip("/"), public)))
        finally:
            blocks.close(verbose=False)


def run_demo(settings: DemoSettings, *, announce: Callable[[str], None]) -> None:
    """Serve the demo until SIGINT or SIGTERM; raises as `open_demo`.

    Args:
        settings: See `DemoSettings`.
        announce: Called with the address.
    """
    stopped = threading.Event()
    with open_demo(settings) as address:
        before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            announce(address)
            while not stopped.wait(0.5):
                pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _free_port(settings: DemoSettings) -> int:
    with contextlib.closing(bind(ServeSettings(host=settings.host, port=settings.port))) as listener:
        port: int = listener.getsockname()[1]
    return port


def _theme() -> Any:
    import gradio as gr

    return gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def _of_one(examine: Callable[..., Iterator[Any]], path: Path) -> Callable[[str], Iterator[Any]]:
    def examine_example(model: str) -> Iterator[Any]:
        yield from examine([str(path)], model)

    return examine_example


def _frame(page: str, *, title: str) -> str:
    """Show a page in a frame of its height in which no script runs."""
    source = html.escape(page)
    return (
        f'<iframe class="report" title="{escape(title)}" sandbox="allow-same-origin" srcdoc="{source}" '
        f'onload="{html.escape(_FIT)}"></iframe>'
    )


def _refusal(title: str, words: str) -> str:
    return f'<div class="refused"><strong>{escape(title)}</strong>{paragraph(words)}</div>'


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while, since Gradio takes some settings from nowhere else."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
