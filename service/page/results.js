// Draws rewrites, reasons and timings.
import { byId, say, span } from "./dom.js";
import { fill, percent } from "./hits.js";
import { ofSearch } from "./marks.js";
import { reference } from "./reference.js";

const FIRST = 4; // rewrites shown at once

// The hits without rewriting. The other column stays empty until the result arrives.
export function showDirect(query, hits) {
  byId("results").hidden = false;
  byId("rewritten").hidden = !query; // a picture alone is not rewritten
  byId("original-title").textContent =
    !reference() ? "As typed" : query ? "Picture and words as typed" : "Like this picture";
  byId("original-text").textContent = query ?? reference().name;
  byId("rewritten-title").textContent = "Rewriting …";
  byId("rewritten-text").textContent = "";
  byId("why").textContent = "";
  byId("unsure").hidden = true;
  ofSearch(null);
  fill(byId("rewritten-hits"), [], null);
  fill(byId("original-hits"), hits, marked(query));
}

// A change to a picture is no query that others could type.
function marked(query) {
  return reference() ? null : query;
}

export function showPartialRewrite(text) {
  byId("rewritten-text").textContent = text.trim();
}

export function showResult(answer) {
  const { status, reason, truncated, parts } = answer.rewrite;
  const rewritten = status === "rewritten";
  byId("rewritten-title").textContent = rewritten ? "Rewritten" : "Not rewritten";
  showTexts(answer, rewritten);
  byId("why").textContent = [sentence(reason), notReranked(answer)].join(" ").trim();
  byId("unsure").hidden = answer.confident || !answer.hits.length;
  byId("copy").hidden = false;
  ofSearch(answer.request_id);
  const names = rewritten ? namesOfSearches(answer) : {};
  fill(byId("rewritten-hits"), answer.hits, marked(answer.query), names);
  const length = parts > 1 ? ` The text was split into ${parts} parts.`
    : truncated ? " The text was too long for the encoder and was cut off." : "";
  const what = answer.query ? `for “${answer.query}”` : `like ${reference()?.name}`;
  if (status === "fallback") say(`Searched as typed: ${reason}.${length}`, true);
  else if (answer.degraded) say(notReranked(answer) + length, true);
  else say(`${answer.hits.length} pictures ${what}.${length}`);
  byId("timings").textContent = Object.entries(answer.timings_ms)
    .map(([stage, took]) => `${stage} ${ms(took)}`).join(" · ");
}

// The rewrites with their probabilities, the most probable first; the rest on request.
function showTexts(answer, rewritten) {
  const { texts, probabilities } = answer.rewrite;
  const shown = byId("rewritten-text");
  shown.textContent = rewritten ? "" : answer.query ?? "";
  if (!rewritten) return;
  const items = texts.map((text, place) => {
    const item = document.createElement("li");
    item.dir = "auto";
    item.textContent = text;
    const probability = probabilities[place];
    if (probability !== null) item.append(" ", span("probability", percent(probability)));
    return item;
  });
  shown.append(listOf(items.slice(0, FIRST)));
  if (items.length <= FIRST) return;
  const rest = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = `${items.length - FIRST} more`;
  rest.append(summary, listOf(items.slice(FIRST)));
  shown.append(rest);
}

function listOf(items) {
  const list = document.createElement("ul");
  list.className = "rewrites";
  list.append(...items);
  return list;
}

// What "rewrite 1" and so on searched for. The parts of a long query are one search.
function namesOfSearches({ rewrite: { texts, parts } }) {
  if (parts > 1) return {};
  return Object.fromEntries(texts.map((text, place) => [`rewrite ${place + 1}`, `“${text}”`]));
}

export function showFailure(problem) {
  byId("rewritten-title").textContent = "Not rewritten";
  say(problem, true);
}

// Why the hits are in the order of the search although another one was asked for.
function notReranked({ rerank }) {
  return rerank && rerank.status !== "reranked" ? `Not reranked: ${rerank.reason}.` : "";
}

function sentence(reason) {
  return reason ? `${reason[0].toUpperCase()}${reason.slice(1)}.` : "";
}

function ms(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}
