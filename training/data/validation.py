"""Validation loss song by song over a whole split; B batch, T context, V vocabulary.

Convention: a song is the sequence eos + ids + eos; every id and the final eos are predicted exactly
once, so a song of S tokens has S + 1 targets. It is cut into windows of at most T targets (stride
T), and each window starts with an empty context. The loss is the sum of all negative
log-likelihoods over the number of all targets. Songs, not tokens, are the independent draws, so the
standard error is that of a ratio estimator over songs. If only every k-th window of a song is read,
the loss is an estimate of that over all windows, from the same windows for all models.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from .blocks import Songs

IGNORED = -100


@dataclass(frozen=True)
class SongLoss:
    """Loss of a split.

    Attributes:
        nll_nats: (n_songs,) float64, one sum per song.
        n_targets: (n_songs,) int64; 0 for a song with no window read.
    """

    nll_nats: np.ndarray
    n_targets: np.ndarray

    @property
    def loss_nats_per_token(self) -> float:
        """Total nll over total targets."""
        return float(self.nll_nats.sum() / self.n_targets.sum())

    @property
    def n_songs(self) -> int:
        """Songs with at least one window read."""
        return int(np.count_nonzero(self.n_targets))

    @property
    def standard_error_nats_per_token(self) -> float | None:
        """That of the ratio over songs; None for a single song. Source: Cochran 1977, eq. 2.46."""
        n = self.n_songs
        if n < 2:
            return None
        residuals = self.nll_nats - self.loss_nats_per_token * self.n_targets
        return math.sqrt(n / (n - 1) * float(residuals @ residuals)) / float(self.n_targets.sum())


@dataclass(frozen=True)
class Window:
    """At most T targets of one song, with the inputs that predict them."""

    song: int
    inputs: np.ndarray
    targets: np.ndarray


class SongEvaluator:
    """Computes the loss of a split in batches of windows of similar length.

    Args:
        songs: The split.
        eos_id: Opens and ends each song.
        context: T.
        batch_tokens: Maximum number of input positions in one forward pass.
        every: k, to read every k-th window: of song i, beginning with window i modulo k.
    """

    def __init__(
        self, songs: Songs, eos_id: int, context: int, batch_tokens: int, every: int = 1
    ) -> None:
        windows = [
            window
            for i, ids in enumerate(songs.ids)
            for window in cut_song(i, ids, eos_id, context)[i % every :: every]
        ]
        self.n_targets = np.zeros(len(songs.ids), dtype=np.int64)
        for window in windows:
            self.n_targets[window.song] += len(window.targets)
        # similar lengths together, so that hardly any padding is computed; the sort is stable
        windows.sort(key=lambda window: -len(window.inputs))
        self.batches: list[list[Window]] = []
        for window in windows:
            last = self.batches[-1] if self.batches else []
            if last and (len(last) + 1) * len(last[0].inputs) <= batch_tokens:
                last.append(window)
            else:
                self.batches.append([window])
        self.eos_id = eos_id

    @torch.inference_mode()
    def evaluate(
        self,
        model: torch.nn.Module,
        rank: int = 0,
        world_size: int = 1,
        on_batch: Callable[[], None] = lambda: None,
    ) -> SongLoss:
        """Loss of this process's share of the batches; sum nll_nats over processes for the total.

        Args:
            model: Causal language model; it is set to eval mode and back.
            rank: Of this process.
            world_size: Number of processes.
            on_batch: Called before each batch; may raise to abort.
        """
        nll_nats = np.zeros(len(self.n_targets))
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
        try:
            for batch in self.batches[rank::world_size]:
                on_batch()
                sums = self._window_sums(model, batch, device)
                np.add.at(nll_nats, [window.song for window in batch], sums)
        finally:
            model.train(was_training)
        return SongLoss(nll_nats, self.n_targets)

    def _window_sums(
        self, model: torch.nn.Module, batch: list[Window], device: torch.device
    ) -> np.ndarray:
        longest = len(batch[0].inputs)
        # (B, T); padding at the end is not seen by the positions before it
        inputs = np.full((len(batch), longest), self.eos_id)
        targets = np.full((len(batch), longest), IGNORED)
        for row, window in enumerate(batch):
            inputs[row, : len(window.inputs)] = window.inputs
            targets[row, : len(window.targets)] = window.targets
        input_ids = torch.from_numpy(inputs).to(device)
        logits = model(input_ids=input_ids, use_cache=False).logits  # (B, T, V)
        nll = cross_entropy(
            logits.flatten(0, 1).float(),
            torch.from_numpy(targets).to(device).flatten(),
            ignore_index=IGNORED,
            reduction="none",
        )
        return nll.cpu().double().view(len(batch), longest).sum(1).numpy()  # (B,)


def cut_song(song: int, ids: np.ndarray, eos_id: int, context: int) -> list[Window]:
    """Windows of one song, in order; together they contain each of its targets once."""
    sequence = np.concatenate([[eos_id], ids, [eos_id]])
    inputs, targets = sequence[:-1], sequence[1:]
    starts = range(0, len(inputs), context)
    return [Window(song, inputs[s : s + context], targets[s : s + context]) for s in starts]
