"""Starts the real program, waits for its ready line and ends it by its own pid."""

import functools
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

from .wait import PATIENCE_S, eventually

ROOT = Path(__file__).resolve().parents[3]
_SANITIZER = re.compile(rb"Sanitizer|runtime error:")


def find_binary() -> Path | None:
    """$PENSTOCK_BIN, else the release build, else the development build."""
    given = os.environ.get("PENSTOCK_BIN")
    if given:
        return Path(given).resolve()
    for preset in ("release", "dev"):
        path = ROOT / "build" / preset / "bin" / "penstock"
        if path.exists():
            return path
    return None


class Process:
    """One run of the program, or of another `binary`. Its output is kept in files under `folder`."""

    def __init__(self, args: list[str], folder: Path, name: str, binary: Path | None = None):
        binary = binary or find_binary()
        assert binary is not None, "no penstock binary: build it, or set PENSTOCK_BIN"
        self.stderr_path = folder / f"{name}.stderr"
        self.args = [str(binary), *args]
        self._stderr = open(self.stderr_path, "wb")
        self._lines: list[str] = []
        self.popen = subprocess.Popen(
            self.args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._stderr
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.popen.stdout:
            if len(self._lines) < 10_000:
                self._lines.append(line.decode(errors="replace").rstrip("\n"))

    @property
    def pid(self) -> int:
        return self.popen.pid

    def stdout(self) -> list[str]:
        return list(self._lines)

    def stderr(self) -> str:
        return self.stderr_path.read_text(errors="replace")

    def wait_for_line(self, pattern: str) -> list[str]:
        """All lines up to the first that matches `pattern`."""
        wanted = re.compile(pattern)

        def probe():
            lines = self.stdout()
            for i, line in enumerate(lines):
                if wanted.search(line):
                    return lines[: i + 1]
            if self.popen.poll() is not None:
                raise AssertionError(
                    f"{' '.join(self.args)} ended with {self.popen.returncode} before it was ready:\n"
                    f"{self.stderr()[-4000:]}"
                )
            return None

        try:
            return eventually(probe, f"a line like {pattern!r} from {self.args[1]}")
        except AssertionError:
            self.kill()
            raise

    def rss_bytes(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def peak_rss_bytes(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    def terminate(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """As a machine that loses power: no chance to say anything."""
        if self.popen.poll() is None:
            os.kill(self.popen.pid, signal.SIGKILL)
        self.popen.wait(PATIENCE_S)
        self._close()

    def wait(self, within_s: float = PATIENCE_S) -> int:
        """The exit code of a program that ends by itself; one that does not is killed, and that is a failure."""
        try:
            code = self.popen.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end within {within_s:.0f} s: {self.args}") from None
        self._close()
        return code

    def stop(self) -> None:
        """SIGTERM; the program must end by itself, with 0 and without a sanitizer's complaint."""
        if self.popen.poll() is None:
            self.terminate()
            try:
                self.popen.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                # The second signal is documented to end it at once.
                self.terminate()
                try:
                    self.popen.wait(5)
                except subprocess.TimeoutExpired:
                    self.kill()
                raise AssertionError(f"{self.args[1]} did not end on SIGTERM") from None
        self._close()
        assert self.popen.returncode == 0, (
            f"{self.args[1]} ended with {self.popen.returncode}:\n{self.stderr()[-4000:]}"
        )
        assert not _SANITIZER.search(self.stderr_path.read_bytes()), self.stderr()[-8000:]

    def _close(self) -> None:
        self._reader.join(5)
        self.popen.stdout.close()
        self._stderr.close()


@functools.cache
def sanitizer_of(binary: Path) -> str:
    """"address", "thread" or "": what the binary was built with."""
    data = binary.read_bytes()
    if b"__tsan_init" in data:
        return "thread"
    return "address" if b"__asan_init" in data else ""
