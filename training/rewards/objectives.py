"""What a group of rewrites is trained for: from its rewards to the credit that each rewrite gets.

GRPO subtracts the group's mean from the credits; the rest is the advantage. Every function takes
and returns float64 ``[groups, rewrites]``.
"""

from math import comb

import numpy as np
from scipy.special import softmax

from training.rewards.ranking import Floats

MIXTURE_FLOOR = 1e-3  # keeps a group in which nothing finds the target from being amplified


def mixture_credit(probabilities: Floats, floor: float = MIXTURE_FLOOR) -> Floats:
    """The share of each rewrite in the likelihood of the mixture: ``p_i / (sum_j p_j + n floor)``.

    The mixture of rewrites (design, 3.6) finds the target with the probability
    ``E[p(target | rewrite)]``. The gradient of the logarithm of that mean, estimated from n
    rewrites, is ``sum_i p_i grad log pi(i) / sum_j p_j``. A group that finds the target with one
    of its rewrites only is satisfied, so the policy keeps what different rewrites know.

    Args:
        probabilities: of the target, in the softmax over the pictures for each rewrite.
    """
    count = probabilities.shape[1]
    credit: Floats = probabilities / (probabilities.sum(1, keepdims=True) + count * floor)
    return credit


def advantage_over_drawn(
    values: Floats, drawn_mean: Floats, mixture: bool, floor: float = MIXTURE_FLOOR
) -> Floats:
    """The advantage of rewrites that were chosen from more draws, with a baseline from all of them.

    ``v_i - m``, where m is the mean value of all that was drawn for the query. For the mixture's
    likelihood, whose gradient divides by that mean, it is ``(p_i - m) / (n (m + floor))``: the
    credit of :func:`mixture_credit` with the pool's mean in place of the group's, minus the
    pool's mean credit.

    Reinforce-Ada: arXiv 2510.04996, of which the abstract and the authors' README were read. As
    there, what was left out of the group is not corrected for, so that a balanced group is biased.

    Args:
        values: rewards, or with ``mixture`` the probabilities of the target.
        drawn_mean: of the values, by rewrite.
    """
    advantage: Floats = values - drawn_mean
    if mixture:
        advantage = advantage / (values.shape[1] * (drawn_mean + floor))
    return advantage


def served_credit(
    probabilities: Floats, log_probabilities: Floats, floor: float = MIXTURE_FLOOR
) -> Floats:
    """The gradient of the likelihood of a mixture whose rewrites are given, and not drawn.

    A search weights rewrite i by ``v_i = pi(i) / sum_j pi(j)`` and finds the target with the
    probability ``P = sum_i v_i p_i``. The gradient of ``log(P + floor)`` is
    ``sum_i v_i (p_i - P) / (P + floor) grad log pi(i)``. It is exact, where draws only estimate
    it. The credits of a group sum to 0: probability moves among these rewrites only.

    Args:
        probabilities: as for :func:`mixture_credit`.
        log_probabilities: of the rewrites, under the policy that found them.
    """
    weights = mixture_weights(log_probabilities)
    likelihood = (weights * probabilities).sum(1, keepdims=True)
    credit: Floats = weights * (probabilities - likelihood) / (likelihood + floor)
    return credit


def mixture_weights(log_probabilities: Floats) -> Floats:
    """The probabilities of the rewrites of each group, divided by their sum."""
    weights: Floats = softmax(log_probabilities, axis=1)
    return weights


def pass_at_k_credit(rewards: Floats, k: int) -> Floats:
    """What each rewrite adds to the best of k, in expectation.

    It is k / n times a difference: the mean best reward of the k-subsets that contain the rewrite,
    minus that of the k-subsets of the others. The first term is the estimator of PKPO ("Pass@K
    Policy Optimization", arXiv 2505.15201), whose gradient is that of E[best of k]. The second one
    does not depend on the rewrite and reduces the variance.

    Args:
        k: from 1 to the number of rewrites; 1 gives the reward itself, up to a constant.
    """
    count = rewards.shape[1]
    order = np.argsort(rewards, axis=1, kind="stable")
    ascending = np.take_along_axis(rewards, order, 1)
    with_it = _best_with(ascending, k)
    without_it = _best_without(ascending, k) if k < count else np.zeros_like(ascending)
    gains = np.empty_like(rewards)
    np.put_along_axis(gains, order, (with_it - without_it) * k / count, 1)
    return gains


def _best_with(ascending: Floats, k: int) -> Floats:
    """For each rewrite, the mean best reward of the k-subsets that contain it."""
    count = ascending.shape[1]
    subsets = comb(count - 1, k - 1)
    best = np.empty_like(ascending)
    for i in range(count):
        # It is the best itself if the others come from the i below it; else some j above it is.
        best[:, i] = ascending[:, i] * comb(i, k - 1)
        for j in range(i + 1, count):
            best[:, i] += ascending[:, j] * (comb(j - 1, k - 2) if k > 1 else 0)
    return best / subsets


def _best_without(ascending: Floats, k: int) -> Floats:
    """For each rewrite, the mean best reward of the k-subsets of the other rewrites."""
    count = ascending.shape[1]
    best = np.empty_like(ascending)
    for i in range(count):
        others = np.delete(ascending, i, 1)
        weights = np.array([comb(j, k - 1) for j in range(count - 1)]) / comb(count - 1, k)
        best[:, i] = others @ weights
    return best


def relative_credit(rewards: Floats) -> Floats:
    """The place of each rewrite in its group, from 0 (worst) to 1 (best); equal ones share theirs.

    Relative rewards: arXiv 2601.23058 (RLRR) shapes rewards by the order within a group instead of
    their values. Only its abstract was read; the linear scale is ours.
    """
    others = rewards.shape[1] - 1
    one, other = rewards[:, :, None], rewards[:, None, :]
    beaten = (one > other).sum(2) + ((one == other).sum(2) - 1) / 2  # an equal one is half beaten
    credit: Floats = beaten / others
    return credit


def cut_at_rank(rewards: Floats, rank: Floats, worst: int) -> Floats:
    """The rewards, and nothing for a rewrite whose target ranks below ``worst``.

    From 800 to 400 is as good as from 2 to 1 to a logarithm, and nobody sees it. Ours; takes any
    shape.
    """
    cut: Floats = np.where(rank <= worst, rewards, 0.0)
    return cut


def most_varied(credit: Floats, count: int) -> Floats:
    """Leaves an advantage to the ``count`` rewrites whose credits have the greatest variance.

    Max-variance down-sampling of PODS (arXiv 2504.13818; only its abstract was read): draw n
    rewrites, learn from m of them. The m are the i highest and the m - i lowest for some i: moving
    a chosen one outwards can only raise the variance. The others get the mean of the chosen ones.
    GRPO's baseline is then that mean, and their advantage is 0.

    Args:
        count: from 2 to the number of rewrites.
    """
    order = np.argsort(credit, axis=1, kind="stable")
    ascending = np.take_along_axis(credit, order, 1)
    size = credit.shape[1]
    splits = [[*range(low), *range(size - count + low, size)] for low in range(count + 1)]
    best = np.argmax([ascending[:, chosen].var(1) for chosen in splits], axis=0)
    result = np.empty_like(credit)
    for row, (places, number) in enumerate(zip(order, best, strict=True)):
        chosen = places[splits[number]]
        result[row] = credit[row, chosen].mean()
        result[row, chosen] = credit[row, chosen]
    return result
