"""vLLM's worker on a CPU, with log-probabilities of only the end of a prompt.

vLLM computes logits for every token of a prompt whose log-probabilities are asked for, request by
request: with a vocabulary of 262,144 words that is most of the work. This worker computes them for
the tokens that are scored, of all requests of a step in one matrix product.

A request names the first scored token in ``extra_args``: {"score_from": int}. The answer has the
log-probabilities of that token and of all that follow it. Those of tokens that came from the prefix
cache are NaN, because nothing was computed for them.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from vllm.v1.outputs import LogprobsTensors
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.cpu_worker import CPUWorker

from models.rewriter.vllm_engine import SCORE_FROM
from models.rewriter.vllm_sampler import FrugalSampler

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.outputs import SamplerOutput
    from vllm.v1.worker.gpu_input_batch import CachedRequestState

_ROWS = 512  # of logits at a time: 256 MB in bfloat16 for 262,144 words
_FLOAT_ROWS = 16  # of them in float32 at a time


class _Scored(NamedTuple):
    """What of a prompt is scored."""

    tokens: list[int]
    missing: int  # of them at the start, which came from the cache
    hidden: Tensor  # that the other tokens are predicted from, [tokens - missing, width]


class ScoringRunner(CPUModelRunner):
    """Scores the ends of prompts, see above. Needs whole prompts: chunked prefill is off."""

    def __init__(self, vllm_config: "VllmConfig", device: torch.device) -> None:
        super().__init__(vllm_config, device)
        self._frugal = FrugalSampler(self.sampler)
        self.sampler = self._frugal

    def _sample(self, *given: Any, **named: Any) -> "SamplerOutput":
        wanted = self.input_batch.num_logprobs
        self._frugal.alternatives = [wanted.get(name, 0) for name in self.input_batch.req_ids]
        return super()._sample(*given, **named)

    def _get_prompt_logprobs_dict(
        self, hidden_states: Tensor, num_scheduled_tokens: dict[str, int]
    ) -> dict[str, LogprobsTensors | None]:
        scored = {
            name: self._scored(name, hidden_states)
            for name in self.num_prompt_logprobs
            if name in num_scheduled_tokens
        }
        for name in scored:
            del self.num_prompt_logprobs[name]
        if not scored:
            return {}

        hidden = torch.cat([part.hidden for part in scored.values()])
        wanted = [token for part in scored.values() for token in part.tokens[part.missing :]]
        found = self._log_probabilities(hidden, torch.tensor(wanted, dtype=torch.long))
        own = torch.split(found, [len(part.hidden) for part in scored.values()])
        return {
            name: _answer(part, values)
            for (name, part), values in zip(scored.items(), own, strict=True)
        }

    def _scored(self, name: str, hidden_states: Tensor) -> _Scored:
        request: CachedRequestState = self.requests[name]
        prompt = request.prompt_token_ids
        assert prompt is not None
        assert request.sampling_params is not None
        extra = request.sampling_params.extra_args or {}
        first = int(extra.get(SCORE_FROM, 1))
        computed = request.num_computed_tokens
        # A token is predicted from the one before it.
        start = max(first - 1, computed)
        offset = int(self.query_start_loc.np[self.input_batch.req_id_to_index[name]]) - computed
        hidden = hidden_states[offset + start : offset + len(prompt) - 1]
        return _Scored(list(prompt[first:]), start + 1 - first, hidden)

    def _log_probabilities(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Of a token after each row of hidden states, float32 ``[rows]``."""
        parts = []
        pairs = zip(torch.split(hidden, _ROWS), torch.split(tokens, _ROWS), strict=True)
        for rows, wanted in pairs:
            logits = self.model.compute_logits(rows)
            few = zip(
                torch.split(logits, _FLOAT_ROWS), torch.split(wanted, _FLOAT_ROWS), strict=True
            )
            # 8 times as fast as logsumexp.
            parts += [-cross_entropy(some.float(), own, reduction="none") for some, own in few]
        return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)


class ScoringWorker(CPUWorker):
    """A :class:`CPUWorker` with a :class:`ScoringRunner`."""

    def init_device(self) -> None:
        super().init_device()  # type: ignore[no-untyped-call]
        # Nothing is loaded yet, so the runner that it made can be replaced.
        self.model_runner = ScoringRunner(self.vllm_config, torch.device("cpu"))


def _answer(part: _Scored, found: Tensor) -> LogprobsTensors:
    count = len(part.tokens)
    logprobs = torch.full((count, 1), torch.nan)
    logprobs[part.missing :, 0] = found
    tokens = torch.tensor(part.tokens, dtype=torch.int32).unsqueeze(1)
    return LogprobsTensors(tokens, logprobs, torch.ones(count, dtype=torch.int32))
