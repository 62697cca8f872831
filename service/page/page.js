import { events } from "./events.js";
import { ofIndex, onPicture, reference, setReference } from "./reference.js";

const byId = (id) => document.getElementById(id);
const SHOWN = 12;
const MODES = ["auto", "always", "never"];
let latest = 0; // answers to older queries are dropped
let stop = new AbortController();

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  search(true);
});

byId("form").addEventListener("change", (event) => {
  if (event.target.name === "rewrite") search(true);
});

document.querySelector(".examples").addEventListener("click", (event) => {
  if (!event.target.matches("button")) return;
  setReference(null);
  byId("query").value = event.target.textContent;
  search(true);
});

onPicture(startFrom, (problem) => say(problem, true));

byId("results").addEventListener("click", (event) => {
  if (event.target.matches(".more")) startFrom(ofIndex(event.target.value, event.target.title));
});

byId("reference-remove").addEventListener("click", () => {
  setReference(null);
  byId("query").focus();
  search(true);
});

byId("copy").addEventListener("click", async () => {
  const body = JSON.stringify(asked()).replaceAll("'", "'\\''");
  const curl = `curl ${location.origin}/search -H 'Content-Type: application/json' -d`;
  const picture = reference()?.image;
  const command = picture ? `${piped(body, picture)} | ${curl} @-` : `${curl} '${body}'`;
  // Browsers give the clipboard to pages of this machine or over HTTPS alone.
  if (!navigator.clipboard) return say(command);
  await navigator.clipboard.writeText(command);
  say("The search is in the clipboard as a curl command.");
});

// A picture of megabytes is no command line: the shell reads it from a file.
function piped(body, picture) {
  const [before, after] = body.split(picture);
  return `{ printf %s '${before}'; base64 -w0 PICTURE; printf %s '${after}'; }`;
}

addEventListener("popstate", fromAddress);
fromAddress();
showCredit();

// What a picture finds by itself is shown at once; then its user says what is to be different.
function startFrom(picture) {
  setReference(picture);
  byId("query").value = "";
  byId("query").focus();
  search(true);
}

function mode() {
  return byId("form").elements.rewrite.value;
}

function asked() {
  const { id, image } = reference() ?? {};
  const query = byId("query").value.trim();
  return {
    ...(query && { query }), ...(id && { image_id: id }), ...(image && { image }),
    k: SHOWN, compare: true, rewrite: mode(),
  };
}

// The search stands in the address, so that it can be kept and sent on; a file of the user's not.
function toAddress({ query, image_id, rewrite }) {
  const parts = {
    ...(query && { q: query }), ...(image_id && { like: image_id }),
    ...(rewrite !== "auto" && { rewrite }),
  };
  history.pushState(null, "", "?" + new URLSearchParams(parts));
}

function fromAddress() {
  const given = new URLSearchParams(location.search);
  const wished = given.get("rewrite");
  byId("form").elements.rewrite.value = MODES.includes(wished) ? wished : "auto";
  setReference(given.get("like") ? ofIndex(given.get("like")) : null);
  byId("query").value = given.get("q") ?? "";
  search(false);
}

async function search(keep) {
  const body = asked();
  if (!body.query && !reference()) return;
  const mine = ++latest;
  if (keep) toAddress(body);
  say("Searching …");
  stop.abort(); // the server need not finish what nobody looks at
  stop = new AbortController();
  try {
    let answered = false;
    for await (const [event, data] of events("/search", body, stop.signal)) {
      if (mine !== latest) return;
      if (event === "direct") showDirect(body.query, data.hits);
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
    if (error.loading) setTimeout(() => mine === latest && search(false), 2000);
  }
}

// What is found without rewriting; the other side stays empty until the answer is there.
function showDirect(query, hits) {
  byId("results").hidden = false;
  byId("rewritten").hidden = !query; // a picture alone is not rewritten
  byId("original-title").textContent =
    !reference() ? "As typed" : query ? "Picture and words as they are" : "Like this picture";
  byId("original-text").textContent = query ?? reference().name;
  byId("rewritten-title").textContent = "Rewriting …";
  byId("rewritten-text").textContent = "";
  byId("why").textContent = "";
  byId("rewritten-hits").replaceChildren();
  fill(byId("original-hits"), hits);
}

function show(answer) {
  const { status, reason, texts, truncated, parts } = answer.rewrite;
  const rewritten = status === "rewritten";
  byId("rewritten-title").textContent = rewritten ? "Rewritten" : "Not rewritten";
  byId("rewritten-text").textContent = rewritten ? texts.join(" · ") : answer.query ?? "";
  byId("why").textContent = sentence(reason);
  byId("copy").hidden = false;
  fill(byId("rewritten-hits"), answer.hits);
  const cut = parts > 1 ? ` The text was read in ${parts} parts.`
    : truncated ? " The encoder did not read the text to its end." : "";
  const what = answer.query ? `for “${answer.query}”` : `like ${reference()?.name}`;
  if (answer.degraded) say(`Searched as typed: ${reason}.${cut}`, true);
  else say(`${answer.hits.length} pictures ${what}.${cut}`);
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
    const score = span("score", hit.score.toFixed(3));
    score.title = `found by: ${hit.found_by.join(", ")}`;
    // textContent: a name is never markup.
    item.append(span("name", name), score, span("source", hit.found_by.join(" + ")), more(hit, name));
    return item;
  }));
}

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
