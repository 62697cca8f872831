"use strict";

const byId = (id) => document.getElementById(id);
const SHOWN = 12;
const MODES = ["auto", "always", "never"];
let latest = 0; // answers to older queries are dropped
let stop = new AbortController();

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  search(byId("query").value, true);
});

byId("form").addEventListener("change", (event) => {
  if (event.target.name === "rewrite") search(byId("query").value, true);
});

document.querySelector(".examples").addEventListener("click", (event) => {
  if (event.target.matches("button")) {
    byId("query").value = event.target.textContent;
    search(event.target.textContent, true);
  }
});

byId("copy").addEventListener("click", async () => {
  const body = JSON.stringify(asked(byId("original-text").textContent)).replaceAll("'", "'\\''");
  const command = `curl ${location.origin}/search -H 'Content-Type: application/json' -d '${body}'`;
  // Browsers give the clipboard to pages of this machine or over HTTPS alone.
  if (!navigator.clipboard) return say(command);
  await navigator.clipboard.writeText(command);
  say("The search is in the clipboard as a curl command.");
});

addEventListener("popstate", fromAddress);
fromAddress();
showCredit();

function mode() {
  return byId("form").elements.rewrite.value;
}

function asked(query) {
  return { query, k: SHOWN, compare: true, rewrite: mode() };
}

// Query and mode stand in the address, so that a search can be kept and sent on.
function fromAddress() {
  const given = new URLSearchParams(location.search);
  const wished = given.get("rewrite");
  byId("form").elements.rewrite.value = MODES.includes(wished) ? wished : "auto";
  const query = given.get("q");
  if (query) {
    byId("query").value = query;
    search(query, false);
  }
}

async function search(query, keep) {
  query = query.trim();
  if (!query) return;
  const mine = ++latest;
  const address = { q: query, ...(mode() === "auto" ? {} : { rewrite: mode() }) };
  if (keep) history.pushState(null, "", "?" + new URLSearchParams(address));
  say("Searching …");
  stop.abort(); // the server need not finish what nobody looks at
  stop = new AbortController();
  try {
    let answered = false;
    for await (const [event, data] of events("/search", asked(query), stop.signal)) {
      if (mine !== latest) return;
      if (event === "direct") showDirect(query, data.hits);
      if (event === "rewrite") byId("rewritten-text").textContent = data.text.trim();
      if (event === "result") show(data);
      if (event === "error") throw new Error(data.error);
      answered = event === "result";
    }
    if (!answered) throw new Error("The server broke off.");
  } catch (error) {
    if (mine !== latest) return;
    byId("rewritten-title").textContent = "Not rewritten";
    say(error.message, true);
  }
}

// Server-sent events of a POST, which the browser's EventSource cannot make.
async function* events(path, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
      body: JSON.stringify(body),
      signal,
    });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({})); // a proxy answers with a page
    throw new Error(problem.error ?? `The server answered ${response.status}.`);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error("The server broke off.");
    });
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const [, event, data] = block.match(/^event: ([^\n]*)\ndata: ([^\n]*)$/);
      yield [event, JSON.parse(data)];
    }
  }
}

// What the query finds as it is; the other side stays empty until the answer is there.
function showDirect(query, hits) {
  byId("results").hidden = false;
  byId("original-text").textContent = query;
  byId("rewritten-title").textContent = "Rewriting …";
  byId("rewritten-text").textContent = "";
  byId("why").textContent = "";
  byId("rewritten-hits").replaceChildren();
  fill(byId("original-hits"), hits);
}

function show(answer) {
  const { status, reason, texts, truncated } = answer.rewrite;
  const rewritten = status === "rewritten";
  byId("rewritten-title").textContent = rewritten ? "Rewritten" : "Not rewritten";
  byId("rewritten-text").textContent = rewritten ? texts.join(" · ") : answer.query;
  byId("why").textContent = sentence(reason);
  byId("copy").hidden = false;
  fill(byId("rewritten-hits"), answer.hits);
  const cut = truncated ? " The encoder did not read the text to its end." : "";
  if (answer.degraded) say(`Searched as typed: ${reason}.${cut}`, true);
  else say(`${answer.hits.length} pictures for “${answer.query}”.${cut}`);
  const { rewrite, encode, search, total } = answer.timings_ms;
  byId("timings").textContent =
    `rewrite ${ms(rewrite)} · encode ${ms(encode)} · search ${ms(search)} · total ${ms(total)}`;
}

function sentence(reason) {
  return reason ? `${reason[0].toUpperCase()}${reason.slice(1)}.` : "";
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
