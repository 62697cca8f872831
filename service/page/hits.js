// Draws hits, and moves those that were reranked from their old places to the new ones.
import { byId, span } from "./dom.js";
import { marks } from "./marks.js";
import { open } from "./opened.js";

const MOVE_MS = 700;
const shown = new Map(); // hits by the id of their list

// `query`: what they can be marked for, if anything. `names`: what a search is called, if not as the
// server calls it.
export function fill(list, hits, query, names = {}) {
  shown.set(list.id, hits);
  list.replaceChildren(...hits.map((hit) => drawn(hit, query, names)));
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) move([...list.children], hits);
}

export function percent(share) {
  return share >= 0.1 ? `${Math.round(share * 100)}%` : `${(share * 100).toFixed(1)}%`;
}

function drawn(hit, query, names) {
  const name = hit.metadata.name ?? hit.metadata.file ?? hit.id;
  const item = document.createElement("li");
  item.append(opener(hit, name, query));
  const score = span("score", percent(hit.score));
  score.title = `probability that this is the picture; cosine ${hit.cosine.toFixed(3)}`;
  const source = span("source", `by ${hit.found_by.map((search) => names[search] ?? search).join(" + ")}`);
  source.dir = "auto";
  // Names are set as textContent, so they are never parsed as markup.
  item.append(score, ...moved(hit), source, more(hit, name),
    ...marks(query, hit.id, name));
  return item;
}

// The picture and its name. A link, so that the picture can be opened in a tab of its own.
function opener(hit, name, query) {
  const link = document.createElement("a");
  link.className = "open";
  link.href = hit.url ? `${hit.url}?size=1024` : "#";
  if (hit.url) {
    const image = document.createElement("img");
    image.src = `${hit.url}?size=160`;
    image.alt = name;
    image.loading = "lazy";
    link.append(image);
  }
  link.append(span("name", name));
  link.setAttribute("aria-label", name); // which picture and name say twice
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(hit, name, ranks(hit.id), query);
  });
  return link;
}

// Where a picture is in both lists, as sentences.
function ranks(id) {
  const lists = [["original", byId("original-title")], ["rewritten", byId("rewritten-title")]];
  return lists.filter(([, title]) => title.offsetParent).map(([name, title]) => {
    const place = shown.get(`${name}-hits`)?.findIndex((hit) => hit.id === id) ?? -1;
    const where = place < 0 ? "not among the first hits" : `rank ${place + 1}`;
    return `${title.textContent}: ${where}.`;
  });
}

// Both ranks of a hit that reranking moved.
function moved({ rank, rank_before: before }) {
  if (!before || before === rank) return [];
  const up = rank < before;
  const ranks = span(up ? "moved up" : "moved", `${up ? "▲" : "▼"} ${before} → ${rank}`);
  ranks.title = `rank ${before} in the search, ${rank} after reranking`;
  return [" ", ranks];
}

// A hit that was not among those shown has no old place, and fades in.
function move(items, hits) {
  const places = items.map((item) => item.getBoundingClientRect());
  items.forEach((item, place) => {
    const before = hits[place].rank_before;
    if (!before || before === place + 1) return;
    const [from, to] = [places[before - 1], places[place]];
    const start = from
      ? { transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)` }
      : { opacity: 0 };
    item.animate([start, {}], { duration: MOVE_MS, easing: "ease-in-out" });
  });
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
