"use strict";

const byId = (id) => document.getElementById(id);
const SHOWN = 12;
let latest = 0; // answers to older queries are dropped

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  search(byId("query").value, true);
});

document.querySelector(".examples").addEventListener("click", (event) => {
  if (event.target.matches("button")) {
    byId("query").value = event.target.textContent;
    search(event.target.textContent, true);
  }
});

addEventListener("popstate", fromAddress);
fromAddress();
showCredit();

// The query stands in the address, so that a search can be kept and sent on.
function fromAddress() {
  const query = new URLSearchParams(location.search).get("q");
  if (query) {
    byId("query").value = query;
    search(query, false);
  }
}

async function search(query, keep) {
  query = query.trim();
  if (!query) return;
  const mine = ++latest;
  if (keep) history.pushState(null, "", "?" + new URLSearchParams({ q: query }));
  say("Searching …");
  try {
    const answer = await post("/search", { query, k: SHOWN, compare: true, rewrite: "auto" });
    if (mine === latest) show(answer);
  } catch (error) {
    if (mine === latest) say(error.message, true);
  }
}

async function post(path, body) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function show(answer) {
  const { status, reason, texts, truncated } = answer.rewrite;
  const rewritten = status === "rewritten";
  byId("results").hidden = false;
  byId("original-text").textContent = answer.query;
  byId("rewritten-title").textContent = rewritten ? "Rewritten" : "Not rewritten";
  byId("rewritten-text").textContent = rewritten ? texts.join(" · ") : reason;
  fill(byId("original-hits"), answer.original_hits);
  fill(byId("rewritten-hits"), answer.hits);
  const cut = truncated ? " The encoder did not read the text to its end." : "";
  if (answer.degraded) say(`Searched as typed: ${reason}.${cut}`, true);
  else say(`${answer.hits.length} pictures for “${answer.query}”.${cut}`);
  const { rewrite, encode, search, total } = answer.timings_ms;
  byId("timings").textContent =
    `rewrite ${ms(rewrite)} · encode ${ms(encode)} · search ${ms(search)} · total ${ms(total)}`;
}

function ms(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

function fill(list, hits) {
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
    // textContent: a name is never markup.
    item.append(span("name", name), span("score", hit.score.toFixed(3)));
    return item;
  }));
}

function span(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

function say(sentence, warning = false) {
  byId("status").textContent = sentence;
  byId("status").classList.toggle("warning", warning);
}

// A licence may ask for a name beside the pictures.
async function showCredit() {
  const response = await fetch("/info").catch(() => null);
  if (!response?.ok) return void setTimeout(showCredit, 3000);
  const info = await response.json();
  byId("credit").textContent = info.index.credit ?? "";
}
