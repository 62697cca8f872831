"""A branch of a search copies the keys and values of the greedy answer that it leaves.

vLLM's prefix cache shares whole blocks only, 32 tokens on a CPU. The prompt of a tuned model is
shorter, so that every branch would compute it again. This connector gives a branch a copy of the
block that the greedy answer writes to; what is left to compute is its own first word. It also holds
requests back that are to be computed together.

vLLM creates it twice in the engine's process: in the scheduler, which says what to copy, and in the
worker, which copies. It is an ordinary KV connector, except that both ends are the same cache.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    SupportsHMA,
)
from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.forward_context import ForwardContext
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

KEPT_SHARE = 1 / 16  # of the cache's blocks, for greedy answers that are finished


class Copy(NamedTuple):
    """Block ids, one for each group of layers."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass
class Copies(KVConnectorMetadata):
    """What the worker copies before it computes the next step."""

    copies: list[Copy] = field(default_factory=list)


class Kept(NamedTuple):
    """The last blocks of a finished greedy answer, held so that they are not written to."""

    tokens: list[int]  # whose keys and values are computed
    first: int  # place of the first held block in the answer
    blocks: list[tuple[int, ...]]  # ids, one for each group of layers


class Found(NamedTuple):
    """What a request that is about to be scheduled copies."""

    sources: tuple[int, ...]
    place: int  # of the target among the request's blocks


class Search(NamedTuple):
    """What a request says of its search."""

    name: str | None
    greedy: bool  # it writes the greedy answer
    waits: bool  # see vllm_scheduler.py


class Batch(NamedTuple):
    """Requests that are computed in one step."""

    name: str
    size: int
    shared: int  # tokens at their beginning that are the same


class SharedPrompt(KVConnectorBase_V1, SupportsHMA):
    """Requests of one search name it in `kv_transfer_params`: {"search": str, "greedy": bool}.

    Requests that are to be computed in one step name it: {"batch": str, "size": int, "shared":
    int}. Each waits until all have arrived; otherwise the first would take a step of its own. Where
    the tokens that they share at the beginning are not cached, one goes before the others.
    """

    def __init__(
        self,
        vllm_config: "VllmConfig",
        role: KVConnectorRole,
        kv_cache_config: "KVCacheConfig",
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._block_size: int = vllm_config.cache_config.block_size
        # A state-space layer, for one, has no block that holds single tokens.
        self._copyable = all(
            isinstance(group.kv_cache_spec, FullAttentionSpec | SlidingWindowSpec)
            and group.kv_cache_spec.block_size == self._block_size
            for group in kv_cache_config.kv_cache_groups
        )
        self._groups = [group.layer_names for group in kv_cache_config.kv_cache_groups]
        self._most_kept = int(kv_cache_config.num_blocks * KEPT_SHARE)
        self._writing: dict[str, Request] = {}  # greedy answers, by search
        self._kept: OrderedDict[str, Kept] = OrderedDict()  # the oldest first
        self._found: dict[str, Found] = {}  # by request
        self._copies: list[Copy] = []
        self._missing: dict[str, int] = {}  # requests that have not arrived, by batch
        self._leaders: dict[str, str] = {}  # the request that goes before the others, by batch

    # In the scheduler.

    def bind_gpu_block_pool(self, gpu_block_pool: "BlockPool") -> None:
        self._pool = gpu_block_pool

    def on_new_request(self, request: "Request") -> None:
        search = search_of(request)
        if search.name and search.greedy and self._copyable:
            self._writing[search.name] = request
        if batch := _batch(request):
            self._missing[batch.name] = self._missing.get(batch.name, batch.size) - 1
            if not self._missing[batch.name]:
                del self._missing[batch.name]

    def get_num_new_matched_tokens(
        self, request: "Request", num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        """How many tokens the block behind the cached ones has in common with the greedy answer.

        None: the request waits for others.
        """
        if self._waits(request, num_computed_tokens):
            return None, False
        self._found.pop(request.request_id, None)
        search = search_of(request)
        answer = None if search.greedy or not search.name else self._answer(search.name)
        if answer is None:
            return 0, False
        # The last token is computed in any case: what follows it is asked for.
        shared = _common(request.all_token_ids[:-1], answer.tokens)
        matched = shared - num_computed_tokens
        place = num_computed_tokens // self._block_size
        held = range(answer.first, answer.first + len(answer.blocks))
        if not 0 < matched <= self._block_size or place not in held:
            return 0, False
        self._found[request.request_id] = Found(answer.blocks[place - answer.first], place)
        return matched, False

    def update_state_after_alloc(
        self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int
    ) -> None:
        found = self._found.pop(request.request_id, None)
        if found and num_external_tokens:
            targets = tuple(ids[found.place] for ids in blocks.get_block_ids())
            self._copies.append(Copy(found.sources, targets))

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> Copies:
        copies, self._copies = self._copies, []
        return Copies(copies)

    def request_finished_all_groups(
        self, request: "Request", block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        if batch := _batch(request):
            self._missing.pop(batch.name, None)  # it was cancelled before all had arrived
            self._leaders.pop(batch.name, None)
        search = search_of(request).name
        if search and self._writing.get(search) is request:
            del self._writing[search]
            first = request.num_prompt_tokens // self._block_size
            self._keep(search, Kept(_computed(request), first, _rows(block_ids)[first:]))
        return False, None

    def _waits(self, request: "Request", num_computed_tokens: int) -> bool:
        """Whether a request waits for others of its batch."""
        batch = _batch(request)
        if batch is None:
            return False
        if batch.name in self._missing:
            return True
        if num_computed_tokens > batch.shared - self._block_size:
            return False
        return self._leaders.setdefault(batch.name, request.request_id) != request.request_id

    def _answer(self, search: str) -> Kept | None:
        """The greedy answer as far as it is computed."""
        if request := self._writing.get(search):
            assert self._kv_cache_manager
            ids = self._kv_cache_manager.get_block_ids(request.request_id)
            return Kept(_computed(request), 0, _rows(ids))
        return self._kept.get(search)

    def _keep(self, search: str, kept: Kept) -> None:
        self._pool.touch([self._pool.blocks[block] for row in kept.blocks for block in row])
        self._kept[search] = kept
        while sum(len(kept.blocks) for kept in self._kept.values()) > self._most_kept:
            _, oldest = self._kept.popitem(last=False)
            self._pool.free_blocks(self._pool.blocks[id] for row in oldest.blocks for id in row)

    # In the worker.

    def register_kv_caches(self, kv_caches: "dict[str, torch.Tensor]") -> None:
        self._caches = [[kv_caches[name] for name in layers] for layers in self._groups]

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, Copies)
        if not metadata.copies:
            return
        for group, caches in enumerate(self._caches):
            sources = [copy.sources[group] for copy in metadata.copies]
            targets = [copy.targets[group] for copy in metadata.copies]
            for cache in caches:
                cache[targets] = cache[sources]

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Everything is copied when :meth:`start_load_kv` returns."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: "torch.Tensor", attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Nothing leaves the cache."""

    def wait_for_save(self) -> None:
        """Nothing leaves the cache."""


def search_of(request: "Request") -> Search:
    """The search that a request belongs to, without a name if to none."""
    parameters = request.kv_transfer_params or {}
    return Search(
        parameters.get("search"), parameters.get("greedy", False), parameters.get("waits", False)
    )


def _batch(request: "Request") -> Batch | None:
    parameters = request.kv_transfer_params or {}
    if "batch" not in parameters:
        return None
    return Batch(parameters["batch"], parameters["size"], parameters["shared"])


def _computed(request: "Request") -> list[int]:
    """The tokens whose keys and values are in the cache when the next step begins."""
    return list(request.all_token_ids[: request.num_computed_tokens])


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _rows(block_ids: tuple[list[int], ...]) -> list[tuple[int, ...]]:
    """The blocks at each place of a request, one for each group of layers."""
    return list(zip(*block_ids, strict=False))
