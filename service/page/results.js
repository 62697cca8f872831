// Draws rewrites, reasons and timings.
import { byId, element, say, span } from "./dom.js";
import { fill } from "./hits.js";
import { ofSearch } from "./marks.js";
import { inWords, sentence } from "./reasons.js";
import { reference } from "./reference.js";
import { number, percent, t } from "./strings.js";

const FIRST = 4; // rewrites shown at once
// Shown when the result arrives: what is below a growing text would jump.
const AFTER = ["why", "unsure", "rewritten-hits", "told"];

export function showSearching() {
  say(t("searching"));
  byId("timings").textContent = "";
}

// The hits without rewriting. The other column stays empty until the result arrives.
export function showDirect(query, hits) {
  byId("results").hidden = false;
  for (const id of AFTER) byId(id).hidden = true;
  byId("rewritten").hidden = !query; // a picture alone is not rewritten
  byId("original-title").textContent =
    t(!reference() ? "as_typed" : query ? "typed_both" : "like_this");
  byId("original-text").textContent = query ?? reference().name;
  byId("rewritten-title").textContent = t("rewriting");
  byId("rewritten-text").textContent = "";
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
  byId("rewritten-title").textContent = t(rewritten ? "rewritten" : "not_rewritten");
  showTexts(answer, rewritten);
  byId("why").textContent = [sentence(reason), notReranked(answer)].join(" ").trim();
  for (const id of AFTER) byId(id).hidden = false;
  byId("unsure").hidden = answer.confident || !answer.hits.length;
  byId("copy").hidden = false;
  ofSearch(answer.request_id);
  const names = rewritten ? namesOfSearches(answer) : {};
  fill(byId("rewritten-hits"), answer.hits, marked(answer.query), names);
  const length = parts > 1 ? t("parts", { n: parts }) : truncated ? t("cut") : "";
  const tell = (first, warning) => say(`${first} ${length}`.trim(), warning);
  const n = answer.hits.length;
  if (status === "fallback") tell(t("fallback", { reason: inWords(reason) }), true);
  else if (answer.degraded) tell(notReranked(answer), true);
  else if (answer.query) tell(t("found", { n, query: answer.query }));
  else tell(t("found_like", { n, name: reference()?.name }));
  byId("timings").textContent = Object.entries(answer.timings_ms)
    .map(([stage, took]) => `${t(`stage_${stage}`)} ${ms(took)}`).join(" · ");
}

// The rewrites with their probabilities, the most probable first; the rest on request.
function showTexts(answer, rewritten) {
  const { texts, probabilities } = answer.rewrite;
  const shown = byId("rewritten-text");
  shown.textContent = rewritten ? "" : answer.query ?? "";
  if (!rewritten) return;
  const items = texts.map((text, place) => {
    const item = element("li", { dir: "auto" }, text);
    const probability = probabilities[place];
    if (probability !== null) item.append(" ", span("probability", percent(probability)));
    return item;
  });
  shown.append(listOf(items.slice(0, FIRST)));
  if (items.length <= FIRST) return;
  const summary = element("summary", {}, t("more", { n: items.length - FIRST }));
  shown.append(element("details", {}, summary, listOf(items.slice(FIRST))));
}

function listOf(items) {
  return element("ul", { className: "rewrites" }, ...items);
}

// What "rewrite 1" and so on searched for. The parts of a long query are one search.
function namesOfSearches({ rewrite: { texts, parts } }) {
  if (parts > 1) return {};
  return Object.fromEntries(texts.map((text, place) => [`rewrite ${place + 1}`, `“${text}”`]));
}

export function showFailure(problem) {
  byId("rewritten-title").textContent = t("not_rewritten");
  say(problem, true);
}

// Why the hits are in the order of the search although another one was asked for.
function notReranked({ rerank }) {
  if (!rerank || rerank.status === "reranked") return "";
  return t("not_reranked", { reason: inWords(rerank.reason) });
}

function ms(value) {
  return `${number(value < 10 ? Math.round(value * 10) / 10 : Math.round(value))} ms`;
}
