"""vLLM's scheduler, which lets a lone search say what it follows before the next step begins.

The branches of a search are chosen in another process, after each word of the greedy answer. An
engine that goes on at once is a step ahead of it: every branch would begin a step late, and the
search end a step late. While a search has the engine to itself, nobody loses by the wait of one or
two milliseconds. Its client ends it by an abort of no request.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vllm.v1.core.sched.scheduler import Scheduler

from models.rewriter.vllm_shared_prompt import search_of

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.engine import EngineCoreOutputs
    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.request import Request, RequestStatus


class SearchScheduler(Scheduler):
    """A :class:`Scheduler` that waits for the search that it is alone with.

    A request of a search that wants to be waited for says so in `kv_transfer_params`: {"search":
    str, "greedy": bool, "waits": True}.
    """

    _awaited: str | None = None  # the search

    def has_requests(self) -> bool:
        """False while a search is awaited: the engine then sleeps until it hears something."""
        return self._awaited is None and super().has_requests()

    def add_request(self, request: "Request") -> None:
        super().add_request(request)
        if search_of(request).name != self._awaited:
            self._awaited = None

    def finish_requests(
        self, request_ids: str | Iterable[str] | None, finished_status: "RequestStatus"
    ) -> "list[Request]":
        self._awaited = None
        return super().finish_requests(request_ids, finished_status)

    def update_from_output(
        self, scheduler_output: "SchedulerOutput", model_runner_output: "ModelRunnerOutput"
    ) -> "dict[int, EngineCoreOutputs]":
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        told = {one.request_id for part in outputs.values() for one in part.outputs}
        self._awaited = self._search_to_await(told)
        return outputs

    def _search_to_await(self, told: set[str]) -> str | None:
        """The only search, if its client was told a word of a greedy answer that goes on."""
        searches = {search_of(request) for request in self.requests.values()}
        names = {search.name for search in searches}
        if len(names) != 1:
            return None
        for request in self.requests.values():
            search = search_of(request)
            if search.greedy and search.waits and request.request_id in told:
                return search.name
        return None
