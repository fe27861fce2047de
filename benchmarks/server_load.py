"""Load a server from a second process: throughput beside `predict_many`, times, refusals at saturation, and memory.

    python benchmarks/server_load.py --model mobile-fakefaces --requests 2000

The server runs in a process of its own, with one worker; this process sends pictures over loopback. The rate of
`predict_many` is measured in a third process, on the same files, before and after, since other work on the machine
comes and goes: only the ratios say something. That of the processor's time for a picture does so even where other
work takes most of the processor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

LIBRARY = """
import sys, time
from pathlib import Path
from deepfake_detect import Detector
files = [path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())]
count, faces = int(sys.argv[3]), sys.argv[4]
detector = Detector.from_pretrained(sys.argv[1])
list(detector.predict_many((files[n % len(files)] for n in range(64)), faces=faces))
start, used = time.perf_counter(), time.process_time()
list(detector.predict_many((files[n % len(files)] for n in range(count)), faces=faces))
print(count / (time.perf_counter() - start), (time.process_time() - used) / count)
"""


def write_pictures(folder: Path, *, count: int, size_px: int) -> None:
    """Write JPEGs of the portrait with some noise, so that no two are the same."""
    portrait = Path(__file__).parents[1] / "examples" / "portrait.jpg"
    pixels = np.asarray(Image.open(portrait).convert("RGB").resize((size_px, size_px)), np.int16)
    random = np.random.default_rng(0)
    for number in range(count):
        noisy = np.clip(pixels + random.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:03d}.jpg", quality=90)


def library_rate(arguments: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Return pictures per second, and processor seconds for a picture, of `predict_many` in a process of its own."""
    options = [arguments.model, str(folder), str(arguments.compare), arguments.faces]
    done = subprocess.run([sys.executable, "-c", LIBRARY, *options], capture_output=True, text=True, check=True)
    rate, used = map(float, done.stdout.split())
    return rate, used


def start_server(arguments: argparse.Namespace, log: Path) -> subprocess.Popen[bytes]:
    """Start the command and wait until it is ready."""
    options = ["--model", arguments.model, "--port", str(arguments.port), "--limit", f"queue={arguments.queue}"]
    command = [sys.executable, "-m", "deepfake_detect", "serve", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log.open("wb"))
    while process.poll() is None:
        try:
            if httpx2.get(f"http://127.0.0.1:{arguments.port}/readyz").status_code == 200:
                return process
        except httpx2.TransportError:
            time.sleep(0.1)
    raise ChildProcessError(log.read_text())


def resident_mb(pid: int) -> float:
    """Return the memory of a process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(pid)


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Load:
    """Requests of one picture or several, a number of them at a time."""

    def __init__(self, arguments: argparse.Namespace, files: list[bytes], pid: int) -> None:
        self.arguments, self.files, self.pid = arguments, files, pid
        self.seconds: list[float] = []
        self.statuses: dict[str, int] = {}
        self.memory: list[tuple[int, float]] = []
        self.sent = 0

    async def run(self, *, count: int, clients: int) -> dict[str, Any]:
        """Send so many requests, and return what was measured."""
        self.seconds, self.statuses, self.sent = [], {}, 0
        url = f"http://127.0.0.1:{self.arguments.port}"
        limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
        async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as http:
            start, used = time.perf_counter(), processor_seconds(self.pid)
            await asyncio.gather(*(self._client(http, count) for _ in range(clients)))
            wall, used = time.perf_counter() - start, processor_seconds(self.pid) - used
        served = self.statuses.get("200", 0) * self.arguments.several
        ranks = statistics.quantiles(self.seconds, n=100) if len(self.seconds) > 1 else [0.0] * 99
        return {
            "clients": clients,
            "requests": count,
            "statuses": self.statuses,
            "pictures_per_s": round(served / wall, 2),
            "cpu_ms": round(1000 * used / max(1, served), 2),
            "p50_ms": round(1000 * ranks[49], 1),
            "p95_ms": round(1000 * ranks[94], 1),
            "p99_ms": round(1000 * ranks[98], 1),
        }

    async def _client(self, http: httpx2.AsyncClient, count: int) -> None:
        several = self.arguments.several
        while self.sent < count:
            number, self.sent = self.sent, self.sent + 1
            if number % max(1, count // 20) == 0:
                self.memory.append((number, resident_mb(self.pid)))
            start = time.perf_counter()
            try:
                response = await http.post(
                    "/v1/predict",
                    files=[("images", ("a.jpg", self.files[(number + n) % len(self.files)])) for n in range(several)],
                    data={"faces": self.arguments.faces},
                )
                status = str(response.status_code)
                if status == "200":
                    self.seconds.append(time.perf_counter() - start)
                elif status == "503":
                    await asyncio.sleep(0.05)
            except httpx2.TransportError as error:
                status = type(error).__name__
            self.statuses[status] = self.statuses.get(status, 0) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobile-fakefaces")
    parser.add_argument("--faces", default="auto")
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--compare", type=int, default=600, help="pictures for each rate of predict_many")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--several", type=int, default=1, help="pictures in a request")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--saturate", type=int, default=200, help="clients of the last run; 0 leaves it out")
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--port", type=int, default=18765)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name, "pictures"), Path(name, "log")
        folder.mkdir()
        write_pictures(folder, count=32, size_px=arguments.size_px)
        files = [path.read_bytes() for path in sorted(folder.iterdir())]
        rows, rates = [], []
        server = start_server(arguments, log)
        try:
            load = Load(arguments, files, server.pid)
            asyncio.run(load.run(count=64, clients=8))
            for _ in range(arguments.rounds):
                os.kill(server.pid, signal.SIGSTOP)  # an idle server, but no second model at work
                rates.append(library_rate(arguments, folder))
                os.kill(server.pid, signal.SIGCONT)
                for clients in arguments.clients:
                    load.memory = []
                    row = asyncio.run(load.run(count=arguments.requests, clients=clients))
                    row["memory_mb"] = [round(size) for _, size in load.memory]
                    rows.append(row)
                    print(json.dumps(row), flush=True)
            if arguments.saturate:
                rows.append(asyncio.run(load.run(count=arguments.requests, clients=arguments.saturate)))
                print(json.dumps(rows[-1]), flush=True)
            os.kill(server.pid, signal.SIGSTOP)
            rates.append(library_rate(arguments, folder))
            os.kill(server.pid, signal.SIGCONT)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
        best = max(row["pictures_per_s"] for row in rows)
        least = min(row["cpu_ms"] for row in rows)
        summary = {
            "model": arguments.model,
            "predict_many_per_s": [round(rate, 2) for rate, _ in rates],
            "predict_many_cpu_ms": [round(1000 * used, 2) for _, used in rates],
            "ratio": round(best / max(rate for rate, _ in rates), 3),
            "cpu_ratio": round(1000 * min(used for _, used in rates) / least, 3),
            "exit_status": server.returncode,
            "rows": rows,
        }
    print(json.dumps({name: value for name, value in summary.items() if name != "rows"}))
    if arguments.out:
        arguments.out.write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
