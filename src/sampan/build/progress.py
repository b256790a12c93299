"""What a build tells its client: the messages of the Docker Engine API, in the words of Docker's own builder."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from sampan.errors import InvalidArgument, SampanError

Emit = Callable[[dict[str, object]], None]


class StepFailed(InvalidArgument):
    """A RUN step's command ended with another status than 0."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def failure(error: SampanError) -> dict[str, object]:
    """The message that ends the stream of a build that failed."""
    detail: dict[str, object] = {"message": str(error)}
    if isinstance(error, StepFailed):
        detail = {"code": error.exit_code, **detail}
    return {"errorDetail": detail, "error": str(error)}


def short(image_id: str) -> str:
    """The twelve digits that people see."""
    return image_id.removeprefix("sha256:")[:12]


class Progress:
    """Writes a build's messages. With `quiet` only the result is told."""

    def __init__(self, emit: Emit, quiet: bool) -> None:
        self._emit = emit
        self._quiet = quiet
        self._step = 0
        self._steps = 0

    def begin(self, steps: int) -> None:
        self._steps = steps

    def line(self, text: str) -> None:
        self.text(text + "\n")

    def text(self, text: str) -> None:
        if text and not self._quiet:
            self._emit({"stream": text})

    def step(self, source: str) -> None:
        self._step += 1
        self.line(f"Step {self._step}/{self._steps} : {source}")

    def image(self, image_id: str) -> None:
        self.line(f" ---> {short(image_id)}")

    def cached(self) -> None:
        self.line(" ---> Using cache")

    def running(self, container_id: str) -> None:
        self.line(f" ---> Running in {container_id[:12]}")

    def removed(self, container_id: str) -> None:
        self.line(f" ---> Removed intermediate container {container_id[:12]}")

    def done(self, image_id: str, names: list[str]) -> None:
        self._emit({"aux": {"ID": image_id}})
        if self._quiet:
            self._emit({"stream": image_id + "\n"})
        self.line(f"Successfully built {short(image_id)}")
        for name in names:
            self.line(f"Successfully tagged {name}")

    def output(self) -> Output:
        return Output(self)


class Output:
    """A step's output as text, whatever the borders of its pieces; close it to get the rest."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, data: bytes) -> None:
        self._progress.text(self._decoder.decode(data))

    def close(self) -> None:
        self._progress.text(self._decoder.decode(b"", final=True))
