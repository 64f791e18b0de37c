"""Newton's steps for the strengths of all conditions at once.

A clip is compared within its condition only, so the Hessian has one small block per condition. Blocks of a
size lie side by side and are solved together.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from prefkit.aggregation.counts import Questions


@dataclass(frozen=True)
class Blocks:
    """Where the derivatives by questions go.

    Attributes:
        gradient: sparse [N, Q], 1 for a question's clip a and −1 for b.
        hessian: sparse [S, Q], from a question's curvature to the entries of all blocks, flattened.
        sizes: (clips of a condition, first condition, end) for each run of conditions of one size.
        offsets: int [C + 1], where each condition's block starts in the S entries.
        clips: int [C + 1], where each condition's clips start.
    """

    gradient: sparse.csr_array
    hessian: sparse.csr_array
    sizes: tuple[tuple[int, int, int], ...]
    offsets: np.ndarray
    clips: np.ndarray

    @classmethod
    def of(cls, questions: Questions) -> "Blocks":
        """Makes them for these questions."""
        size, first, second = questions.size, questions.first, questions.second
        clips = np.concatenate([[0], np.cumsum(size)])
        offsets = np.concatenate([[0], np.cumsum(size**2)])
        condition = questions.condition[first]
        i, j = first - clips[condition], second - clips[condition]
        rows = [offsets[condition] + x * size[condition] + y for x, y in ((i, i), (j, j), (i, j), (j, i))]
        number = np.arange(len(first))
        one = np.ones(len(first))
        hessian = sparse.coo_array(
            (np.concatenate([one, one, -one, -one]), (np.concatenate(rows), np.tile(number, 4))),
            shape=(int(offsets[-1]), len(first)),
        ).tocsr()
        gradient = sparse.coo_array(
            (np.concatenate([one, -one]), (np.concatenate([first, second]), np.tile(number, 2))),
            shape=(len(questions.candidate_ids), len(first)),
        ).tocsr()
        starts = np.flatnonzero(np.diff(size, prepend=-1))
        ends = np.append(starts[1:], len(size))
        runs = tuple((int(size[start]), int(start), int(end)) for start, end in zip(starts, ends, strict=True))
        return cls(gradient, hessian, runs, offsets, clips)

    def solve(self, gradient: np.ndarray, curvature: np.ndarray, prior: float) -> np.ndarray:
        """Newton's step: (Hessian + prior · identity)⁻¹ gradient.

        Args:
            gradient: by the strengths, [N] or [N, B] for B problems at once.
            curvature: by the questions' advantages, ≥ 0, [Q] or [Q, B].
            prior: precision of the strengths' prior, > 0.

        Returns:
            As `gradient`.
        """
        flat = gradient.reshape(len(gradient), -1)
        step = np.empty_like(flat)
        for size, start, matrices in self._matrices(curvature.reshape(len(curvature), -1), prior):
            clips = slice(start, start + matrices.shape[1] * size)
            right = flat[clips].reshape(-1, size, flat.shape[1]).transpose(2, 0, 1)[..., None]
            step[clips] = np.linalg.solve(matrices, right)[..., 0].transpose(1, 2, 0).reshape(-1, flat.shape[1])
        return step.reshape(gradient.shape)

    def covariance(self, curvature: np.ndarray, prior: float) -> np.ndarray:
        """The inverse blocks, flattened: [S]; see `block`."""
        inverses = [np.linalg.inv(matrices).ravel() for _, _, matrices in self._matrices(curvature[:, None], prior)]
        return np.concatenate(inverses)

    def block(self, flattened: np.ndarray, condition: int) -> np.ndarray:
        """One condition's [n, n] block of what `covariance` returns."""
        size = int(self.clips[condition + 1] - self.clips[condition])
        return flattened[self.offsets[condition] : self.offsets[condition + 1]].reshape(size, size)

    def variances(self, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the advantages, float [Q], and of the strengths against their condition's mean, float [N]."""
        return self.hessian.T @ covariance, self._centred(covariance)

    def _centred(self, covariance: np.ndarray) -> np.ndarray:
        found = np.empty(self.clips[-1])
        for size, start, end in self.sizes:
            blocks = covariance[self.offsets[start] : self.offsets[end]].reshape(-1, size, size)
            row, whole = blocks.mean(axis=2), blocks.mean(axis=(1, 2))
            own = np.diagonal(blocks, axis1=1, axis2=2)
            found[self.clips[start] : self.clips[end]] = (own - 2 * row + whole[:, None]).ravel()
        return found

    def _matrices(self, curvature: np.ndarray, prior: float) -> Iterator[tuple[int, int, np.ndarray]]:
        entries = self.hessian @ curvature
        for size, start, end in self.sizes:
            run = entries[self.offsets[start] : self.offsets[end]]
            matrices = run.reshape(end - start, size, size, -1).transpose(3, 0, 1, 2).copy()
            matrices[..., range(size), range(size)] += prior
            yield size, int(self.clips[start]), matrices
