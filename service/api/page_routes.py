"""The web page, in the reader's language."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.api.languages import language_of, page_in
from service.runtime.service import Service

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
    "Vary": "Accept-Language, Cookie",
}

router = APIRouter()


@router.get("/", include_in_schema=False)
async def page(request: Request) -> HTMLResponse:
    """The web page. With keys, it offers to log out."""
    service: Service = request.app.state.service
    html = page_in("index.html", language_of(request))
    if service.settings.api_keys:
        html = html.replace('action="/logout" hidden', 'action="/logout"')
    return HTMLResponse(html, headers=PAGE_HEADERS)
