// Draws hits, rewrites, reasons and timings.
import { byId, say } from "./dom.js";
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
  byId("rewritten-hits").replaceChildren();
  fill(byId("original-hits"), hits, {});
}

export function showPartialRewrite(text) {
  byId("rewritten-text").textContent = text.trim();
}

export function showResult(answer) {
  const { status, reason, truncated, parts } = answer.rewrite;
  const rewritten = status === "rewritten";
  byId("rewritten-title").textContent = rewritten ? "Rewritten" : "Not rewritten";
  showTexts(answer, rewritten);
  byId("why").textContent = sentence(reason);
  byId("unsure").hidden = answer.confident || !answer.hits.length;
  byId("copy").hidden = false;
  fill(byId("rewritten-hits"), answer.hits, rewritten ? namesOfSearches(answer) : {});
  const length = parts > 1 ? ` The text was split into ${parts} parts.`
    : truncated ? " The text was too long for the encoder and was cut off." : "";
  const what = answer.query ? `for “${answer.query}”` : `like ${reference()?.name}`;
  if (answer.degraded) say(`Searched as typed: ${reason}.${length}`, true);
  else say(`${answer.hits.length} pictures ${what}.${length}`);
  const { rewrite, encode, search, total } = answer.timings_ms;
  byId("timings").textContent =
    `rewrite ${ms(rewrite)} · encode ${ms(encode)} · search ${ms(search)} · total ${ms(total)}`;
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

function sentence(reason) {
  return reason ? `${reason[0].toUpperCase()}${reason.slice(1)}.` : "";
}

function ms(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

function percent(share) {
  return share >= 0.1 ? `${Math.round(share * 100)}%` : `${(share * 100).toFixed(1)}%`;
}

// `names`: what a search is called, if not as the server calls it.
function fill(list, hits, names) {
  list.replaceChildren(...hits.map((hit) => {
    const name = hit.metadata.name ?? hit.metadata.file ?? hit.id;
    const item = document.createElement("li");
    if (hit.url) {
      const image = document.createElement("img");
      image.src = `${hit.url}?size=160`;
      image.alt = name;
      image.loading = "lazy";
      item.append(image);
    }
    const score = span("score", percent(hit.score));
    score.title = `probability that this is the picture; cosine ${hit.cosine.toFixed(3)}`;
    const source = span("source", `by ${hit.found_by.map((search) => names[search] ?? search).join(" + ")}`);
    source.dir = "auto";
    // Names are set as textContent, so they are never parsed as markup.
    item.append(span("name", name), score, source, more(hit, name));
    return item;
  }));
}

// The button that starts the next search from this hit.
function more(hit, name) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "more";
  button.value = hit.id;
  button.title = name;
  button.textContent = "like this, but …";
  button.setAttribute("aria-label", `More like ${name}`);
  return button;
}

function span(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}
