"""The sampler answers what vLLM's own answers, to the last bit."""

import pytest
import torch
from vllm.v1.sample.sampler import Sampler

from models.rewriter.vllm_sampler import FrugalSampler


def logits(rows: int, vocabulary: int) -> torch.Tensor:
    """Rounded so that many are equal."""
    drawn = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    return (drawn * 2).round()


@pytest.mark.parametrize("vocabulary", [1, 7, 512, 1536, 151_936, 50_257])
def test_the_chosen_token_is_the_first_of_the_greatest(vocabulary: int) -> None:
    some = logits(5, vocabulary)
    assert FrugalSampler.greedy_sample(some).equal(Sampler.greedy_sample(some))


def test_a_row_without_a_finite_logit_does_not_stop_the_others() -> None:
    some = logits(3, 1024)
    some[0] = -torch.inf
    some[1] = torch.nan
    assert FrugalSampler.greedy_sample(some).equal(Sampler.greedy_sample(some))


def test_rows_that_want_alternatives_get_those_of_vllm() -> None:
    logprobs = Sampler.compute_logprobs(logits(4, 1024))
    chosen = Sampler.greedy_sample(logprobs)
    sampler = FrugalSampler(Sampler())
    sampler.alternatives = [0, 8, 0, 3]
    found = sampler.gather_logprobs(logprobs, 8, chosen)
    expected = Sampler.gather_logprobs(logprobs, 8, chosen)
    for row, places in enumerate([1, 9, 1, 9]):
        assert found.logprob_token_ids[row, :places].equal(expected.logprob_token_ids[row, :places])
        assert found.logprobs[row, :places].equal(expected.logprobs[row, :places])
    assert found.logprobs[0, 1:].eq(-torch.inf).all()


def test_nobody_wants_alternatives() -> None:
    logprobs = Sampler.compute_logprobs(logits(2, 512))
    chosen = Sampler.greedy_sample(logprobs)
    found = FrugalSampler(Sampler()).gather_logprobs(logprobs, 0, chosen)
    expected = Sampler.gather_logprobs(logprobs, 0, chosen)
    assert found.logprob_token_ids.equal(expected.logprob_token_ids)
    assert found.logprobs.equal(expected.logprobs)
