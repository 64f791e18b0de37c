"""What happens beside the steps: signals, progress, sample clips."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import transformers

from prefkit.progress import track

# The step -> what sample clips of the model as it is now were found to be, by name
SampleClips = Callable[[int], Mapping[str, float]]


class StopOnSignal(transformers.TrainerCallback):
    """Finishes the step, saves a checkpoint and stops when the process is told to end (SIGTERM)."""

    def __init__(self) -> None:
        self.asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signal over for the block; in another than the main thread nobody can, and it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Asks transformers for the checkpoint and the end."""
        if self.asked:
            control.should_save = control.should_training_stop = True


class ProgressBar(transformers.TrainerCallback):
    """prefkit's progress bar in place of transformers' one with a line per log."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Shows the bar on the first process."""
        if not state.is_world_process_zero:
            self._bar: Iterator[int] = iter(())
            return
        self._bar = track(range(state.global_step, state.max_steps), "Training")
        next(self._bar, None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One step further."""
        next(self._bar, None)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes the bar away, also where training stopped early."""
        if hasattr(self._bar, "close"):
            self._bar.close()


class SampleDuringTraining(transformers.TrainerCallback):
    """Calls `sample_clips` every so many steps and logs what it returns as ``samples/<name>``.

    Args:
        sample_clips: samples clips of the model as it is, and measures them.
        every: steps between calls.
        log: the trainer's.
    """

    def __init__(self, sample_clips: SampleClips, every: int, log: Callable[[dict[str, float]], None]):
        self.sample_clips = sample_clips
        self.every = every
        self._log = log

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Samples on the first process; the others wait at their next step."""
        if state.global_step % self.every == 0 and state.is_world_process_zero:
            found = self.sample_clips(state.global_step)
            step_logs_too = control.should_log  # which logging takes back
            self._log({f"samples/{name}": float(value) for name, value in found.items()})
            control.should_log = step_logs_too
