"""How far strengths and advantages would move with other annotators.

Annotators are resampled, not votes: one annotator's votes share that annotator's taste (the cluster
bootstrap; Cameron, Gelbach & Miller, Bootstrap-Based Improvements for Inference with Clustered Errors, 2008).
Each condition draws as many of its own annotators as it has, since its clips meet no others. Reliabilities,
side bias and ties stay as fitted: they rest on all conditions.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from prefkit.aggregation.blocks import Blocks
from prefkit.aggregation.bradley_terry import Fit
from prefkit.aggregation.counts import SCORE, Counts, Questions
from prefkit.aggregation.davidson import expect_answer

# Numbers per array that are worked on at once: bounds memory whatever the number of votes.
CHUNK = 1_000_000
STEPS = 8
TOLERANCE = 1e-3
# Newton's steps from a fit that is close are short; a longer one has left where the curvature holds.
LONGEST_STEP = 2.0


@dataclass(frozen=True)
class Spread:
    """Half widths of confidence intervals in log odds; NaN where only one annotator compared clips.

    Attributes:
        advantages: float [Q], of s_a − s_b of each question.
        strengths: float [N], of each clip against the mean of its condition.
    """

    advantages: np.ndarray
    strengths: np.ndarray


def bootstrap_spread(
    counts: Counts, fit: Fit, *, prior: float, resamples: int, seed: int, confidence: float,
    prior_mean: np.ndarray | float = 0.0,
) -> Spread:  # fmt: skip
    """The wider of two half widths: of the annotators' bootstrap, and of the votes' own information.

    The bootstrap's standard error becomes an interval through Student's t with one degree of freedom less
    than the condition has annotators K, and is stretched by sqrt(K / (K − 1)): with few clusters it is too
    small by that (Hesterberg, What Teachers Should Know About the Bootstrap, 2015). Where the annotators
    agree on everything, resampling sees no variation at all; then, or whenever it is wider, the normal
    approximation of the posterior counts, which knows how few the votes are.

    Args:
        counts: what `fit` was fitted to.
        fit: the fit.
        prior: the precision it was fitted with.
        resamples: draws, ≥ 2.
        seed: of the draws.
        confidence: of the two-sided intervals, in (0, 1).
        prior_mean: of the strengths, as in the fit.
    """
    questions = counts.questions
    blocks = Blocks.of(questions)
    of_advantages, of_strengths = blocks.variances(blocks.covariance(fit.curvature, prior))
    normal = stats.norm.ppf((1 + confidence) / 2)
    spread = Spread(normal * np.sqrt(of_advantages), normal * np.sqrt(of_strengths))
    mean = np.broadcast_to(np.asarray(prior_mean, float), len(questions.candidate_ids))
    generator = np.random.default_rng(seed)
    for part in _parts(counts, resamples):
        few = part.num_annotators
        factor = stats.t.ppf((1 + confidence) / 2, np.maximum(few - 1, 1)) * np.sqrt(few / np.maximum(few - 1, 1))
        factor[few < 2] = np.nan
        advantages, strengths = _standard_errors(part, fit, prior, mean[part.clips], resamples, generator)
        local = part.counts.questions
        clip_factor = factor[local.condition]
        question_factor = clip_factor[local.first]
        own = spread.advantages[part.asked]
        spread.advantages[part.asked] = np.maximum(own, question_factor * advantages)
        own = spread.strengths[part.clips]
        spread.strengths[part.clips] = np.maximum(own, clip_factor * strengths)
    return spread


@dataclass(frozen=True)
class _Part:
    """Neighbouring conditions with all that is theirs, numbered from 0 (but for annotators)."""

    counts: Counts
    clips: slice
    asked: slice
    member: np.ndarray  # int [M]: which (condition, annotator) a cell belongs to
    first_member: np.ndarray  # int [members]: of the same condition
    fellows: np.ndarray  # int [members]: how many annotators that condition has
    num_annotators: np.ndarray  # float [conditions]


def _parts(counts: Counts, resamples: int) -> list[_Part]:
    """Cuts where a condition ends, so that cells and block entries times resamples stay within `CHUNK`."""
    questions = counts.questions
    condition_of_question = questions.condition[questions.first]
    cells = np.bincount(condition_of_question[counts.question], minlength=len(questions.size))
    weight = np.cumsum(np.maximum(cells, questions.size**2)) * resamples
    # a condition belongs to the chunk in which its last number falls
    chunk = weight // CHUNK
    starts = np.flatnonzero(np.diff(chunk, prepend=-1))
    ends = np.append(starts[1:], len(chunk))
    return [_part(counts, condition_of_question, int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def _part(counts: Counts, condition_of_question: np.ndarray, start: int, end: int) -> _Part:
    questions = counts.questions
    clips = slice(*np.searchsorted(questions.condition, [start, end]))
    asked = slice(*np.searchsorted(condition_of_question, [start, end]))
    cells = slice(*np.searchsorted(counts.question, [asked.start, asked.stop]))
    local = Questions(
        comparison_ids=questions.comparison_ids[asked],
        first=questions.first[asked] - clips.start,
        second=questions.second[asked] - clips.start,
        candidate_ids=questions.candidate_ids[clips],
        condition=questions.condition[clips] - start,
        condition_ids=questions.condition_ids[start:end],
        size=questions.size[start:end],
    )
    own = Counts(
        questions=local,
        question=counts.question[cells] - asked.start,
        annotator=counts.annotator[cells],
        side=counts.side[cells],
        outcome=counts.outcome[cells],
        count=counts.count[cells],
        annotators=counts.annotators,
    )
    condition = condition_of_question[counts.question[cells]] - start
    pairs, member = np.unique(condition * len(counts.annotators) + own.annotator, return_inverse=True)
    of_member = pairs // len(counts.annotators)
    num_annotators = np.bincount(of_member, minlength=end - start)
    first_member = (np.cumsum(num_annotators) - num_annotators)[of_member]
    return _Part(own, clips, asked, member, first_member, num_annotators[of_member], num_annotators.astype(np.float64))


def _standard_errors(
    part: _Part, fit: Fit, prior: float, mean: np.ndarray, resamples: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Of the advantages [Q] and of the strengths against their condition's mean [N]; fits all resamples at once."""
    counts, questions = part.counts, part.counts.questions
    blocks = Blocks.of(questions)
    weight = _draw(part, resamples, generator)[part.member] * counts.count[:, None]
    reliability = fit.reliabilities[counts.annotator][:, None]
    bias = (fit.left_bias * counts.side)[:, None]
    score = SCORE[counts.outcome][:, None]
    starts = np.flatnonzero(np.diff(counts.question, prepend=-1))
    strengths = np.repeat(fit.strengths[part.clips, None], resamples, axis=1)
    for _ in range(STEPS):
        difference = strengths[questions.first] - strengths[questions.second]
        answer = expect_answer(reliability * difference[counts.question] + bias, fit.tie)
        slope = np.add.reduceat(reliability * weight * (score - answer.score), starts)
        curvature = np.add.reduceat(reliability**2 * weight * answer.variance, starts)
        gradient = blocks.gradient @ slope - prior * (strengths - mean[:, None])
        step = np.clip(blocks.solve(gradient, curvature, prior), -LONGEST_STEP, LONGEST_STEP)
        strengths += step
        if np.abs(step).max() < TOLERANCE:
            break
    difference = strengths[questions.first] - strengths[questions.second]
    sums = np.zeros((len(questions.size), resamples))
    np.add.at(sums, questions.condition, strengths)
    centred = strengths - (sums / questions.size[:, None])[questions.condition]
    return difference.std(axis=1, ddof=1), centred.std(axis=1, ddof=1)


def _draw(part: _Part, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each annotator of each condition is drawn, float [members, resamples]."""
    members = len(part.first_member)
    drawn = part.first_member + (generator.random((resamples, members)) * part.fellows).astype(np.int64)
    place = drawn + members * np.arange(resamples)[:, None]
    return np.bincount(place.ravel(), minlength=resamples * members).reshape(resamples, members).T.astype(np.float64)
