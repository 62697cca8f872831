"""The route for candidates of one's own."""

import time

from fastapi import APIRouter, Request
from fastapi.responses import Response

from models.client.wire import ErrorType, RankedDocument, RerankResponse
from models.search.normalise import normalise
from service.api.disconnect import unless_gone
from service.api.requests import Document, RerankRequest
from service.errors import ERROR_RESPONSES, ApiError
from service.monitoring.logs import log_queries
from service.reranking import Asked, admitted_as, rank_texts
from service.runtime.service import Service

router = APIRouter()


@router.post("/rerank", responses={200: {"model": RerankResponse}, **ERROR_RESPONSES})
async def rerank(body: RerankRequest, request: Request) -> Response:
    """Orders documents by how well they fit a query, the best first.

    For candidates of your own, such as the hits of another index. If the language model fails, the
    documents are in the order of the request and have no scores.
    """
    started = time.perf_counter()
    service: Service = request.app.state.service
    documents = [Document(text=d) if isinstance(d, str) else d for d in body.documents]
    _check_lengths(body.query, documents, service)
    query = normalise(body.query) or body.query
    texts = [document.text for document in documents]
    asked = Asked(query, texts, body.rerank_by, service.settings.rerank_passes)
    with service.admit(admitted_as(len(texts), asked.by, asked.passes)):
        ranked = await unless_gone(request, rank_texts(service.rewriters, service.metrics, asked))
    answer = RerankResponse(
        results=[
            RankedDocument(index=place, id=documents[place].id, relevance_score=share)
            for place, share in ranked.order[: body.k]
        ],
        rerank=ranked.told,
        timings_ms={"total": round((time.perf_counter() - started) * 1000, 2)},
        request_id=request.state.request_id,
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def _check_lengths(query: str, documents: list[Document], service: Service) -> None:
    limit = service.settings.max_query_chars
    lengths = {"query": len(query)}
    lengths |= {f"documents.{n}": len(document.text) for n, document in enumerate(documents)}
    for name, length in lengths.items():
        if length > limit:
            sentence = f"{name}: {length:,} characters are more than {limit:,}."
            raise ApiError(413, ErrorType.TOO_LARGE, sentence)
    if service.settings.log_queries:
        log_queries([query])
