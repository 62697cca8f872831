// Sends the search and shows its events as they arrive.
import { toAddress } from "./address.js";
import { byId, say } from "./dom.js";
import { events } from "./events.js";
import { filter } from "./filters.js";
import { remember } from "./recent.js";
import { reference } from "./reference.js";
import { showDirect, showFailure, showPartialRewrite, showResult, showSearching } from "./results.js";
import { t } from "./strings.js";
import { hideWall, showWall } from "./wall.js";

const SHOWN = 12; // pictures
const RETRY_MS = 2000; // while the server loads
let latest = 0; // events of older searches are dropped
let running = new AbortController();

// Searches for what the form says, or shows the gallery if it says nothing. `keep` adds it to the
// browser's history.
export async function search(keep) {
  const body = searchRequest();
  const mine = ++latest;
  running.abort(); // the server need not finish a search that nobody looks at
  if (keep) toAddress(body);
  if (!body.query && !reference()) return showGallery();
  if (keep) remember(body);
  hideWall();
  showSearching(body.query);
  running = new AbortController();
  try {
    let answered = false;
    for await (const [event, data] of events("/search", body, running.signal)) {
      if (mine !== latest) return;
      if (event === "direct") showDirect(body.query, data.hits);
      if (event === "rewrite") showPartialRewrite(data.text);
      if (event === "result") showResult(data);
      if (event === "error") throw new Error(data.error);
      answered = event === "result";
    }
    if (!answered) throw new Error(t("lost"));
  } catch (error) {
    if (mine !== latest) return;
    showFailure(error.message);
    if (error.loading) setTimeout(() => mine === latest && search(false), RETRY_MS);
  }
}

function showGallery() {
  for (const id of ["results", "told"]) byId(id).hidden = true;
  say("");
  showWall(filter());
}

// The body of POST /search.
export function searchRequest() {
  const { id, image } = reference() ?? {};
  const query = byId("query").value.trim();
  const { rewrite, rerank } = byId("form").elements;
  return {
    ...(query && { query }), ...(id && { image_id: id }), ...(image && { image }),
    ...(filter() && { filter: filter() }),
    k: SHOWN, compare: true, rewrite: rewrite.value, ...(rerank.checked && { rerank: true }),
  };
}
