// Draws hits, and moves them from where they were to where they are now: those of the query as typed
// from the other column, those that were reranked from their place in the search.
import { button, byId, element, nameOf, span, still, thumbnail } from "./dom.js";
import { marks } from "./marks.js";
import { open } from "./opened.js";
import { number, percent, t } from "./strings.js";

const MOVE_MS = 700;
const TYPED = "original-hits";
const SEARCHES = { // as the server calls them
  "query": "search_query", "words": "search_words", "picture": "search_picture",
  "picture + query": "search_both", "mean": "search_mean",
};
const shown = new Map(); // hits by the id of their list

// `query`: what they can be marked for, if anything. `names`: what a search is called, if not as the
// server calls it.
export function fill(list, hits, query, names = {}) {
  shown.set(list.id, hits);
  list.replaceChildren(...hits.map((hit) => drawn(hit, query, names, list.id !== TYPED)));
  point(null);
  if (!still()) move([...list.children], hits);
}

// The hit with this id, if it is on the page.
export function known(id) {
  return [...shown.values()].flat().find((hit) => hit.id === id);
}

// Where a picture is in both lists, as sentences.
export function ranks(id) {
  const lists = [["original", byId("original-title")], ["rewritten", byId("rewritten-title")]];
  return lists.filter(([, title]) => title.offsetParent).map(([name, title]) => {
    const n = (shown.get(`${name}-hits`) ?? []).findIndex((hit) => hit.id === id) + 1;
    return t(n ? "rank_in" : "rank_none", { list: title.textContent, n });
  });
}

function drawn(hit, query, names, compared) {
  const name = nameOf(hit);
  const score = span("score", percent(hit.score));
  score.title = t("probability", { cosine: hit.cosine.toFixed(3) });
  const by = hit.found_by.map((search) => names[search] ?? called(search)).join(" + ");
  const source = span("source", t("by", { searches: by }));
  Object.assign(source, { dir: "auto", title: source.textContent });
  const line = element("span", { className: "line" }, score, ...moved(hit));
  const actions = element("span", { className: "line" }, more(hit, name), ...marks(query, hit.id, name));
  const item = element("li", {}, opener(hit, name, query), line, source, actions);
  item.dataset.id = hit.id;
  if (compared) item.append(...change(hit));
  return item;
}

function called(search) {
  return SEARCHES[search] ? t(SEARCHES[search]) : search;
}

// The picture and its name. A link, so that the picture can be opened in a tab of its own.
function opener(hit, name, query) {
  const link = element("a", { className: "open", href: hit.url ? `${hit.url}?size=1024` : "#" });
  if (hit.url) link.append(thumbnail(hit, ""));
  link.append(Object.assign(span("name", name), { dir: "auto", title: name }));
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(hit, query);
  });
  return link;
}

// How far rewriting moved a hit: its places as typed, or that it was not among them.
function change({ id, rank }) {
  const before = placeAsTyped(id) + 1;
  if (before === rank) return [];
  const up = rank < before;
  const by = before ? `${up ? "▲" : "▼"} ${number(Math.abs(before - rank))}` : t("new");
  const badge = span(`change${before ? "" : " new"}`, by);
  badge.title = before ? t("was", { n: before }) : t("was_not");
  return [badge];
}

function placeAsTyped(id) {
  return (shown.get(TYPED) ?? []).findIndex((hit) => hit.id === id);
}

// Both ranks of a hit that reranking moved.
function moved({ rank, rank_before: before }) {
  if (!before || before === rank) return [];
  const up = rank < before;
  const arrow = document.documentElement.dir === "rtl" ? "←" : "→";
  const places = `${up ? "▲" : "▼"} ${number(before)} ${arrow} ${number(rank)}`;
  const shift = span(up ? "moved up" : "moved", places);
  shift.title = t("reranked", { before, rank });
  return [" ", shift];
}

// What was nowhere on the page fades in.
function move(items, hits) {
  const places = items.map((item) => item.getBoundingClientRect());
  const typed = [...byId(TYPED).children].map((item) => item.getBoundingClientRect());
  const inTyped = items[0]?.parentElement.id === TYPED;
  items.forEach((item, place) => {
    const { rank_before: before, id } = hits[place];
    if (inTyped || before === place + 1) return;
    const from = before ? places[before - 1] : typed[placeAsTyped(id)];
    const to = places[place];
    const start = from
      ? { transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)` }
      : { opacity: 0 };
    item.animate([start, {}], { duration: MOVE_MS, easing: "ease-in-out" });
  });
}

// The button that starts the next search from this hit.
function more(hit, name) {
  const made = button("more", t("more_like"), { value: hit.id, title: name });
  made.setAttribute("aria-label", `${t("more_like")} ${name}`);
  return made;
}

// A line between the two places of the hit under the pointer or with the focus.
for (const kind of ["pointerover", "focusin"]) {
  byId("results").addEventListener(kind, (event) => point(event.target.closest("li[data-id]")));
}
byId("results").addEventListener("pointerleave", () => point(null));

function point(item) {
  for (const one of document.querySelectorAll(".pointed")) one.classList.remove("pointed");
  const same = item ? [...byId("results").querySelectorAll("li[data-id]")]
    .filter((one) => one.dataset.id === item.dataset.id) : [];
  byId("way").classList.toggle("shown", same.length === 2);
  if (same.length !== 2) return;
  for (const one of same) one.classList.add("pointed");
  const ground = byId("results").getBoundingClientRect();
  const [[x1, y1], [x2, y2]] = same.map((one) => {
    const { left, top, width } = one.getBoundingClientRect();
    return [left - ground.left + width / 2, top - ground.top + width / 2]; // of its picture
  });
  const bend = (x2 - x1) / 2;
  byId("way").firstElementChild.setAttribute(
    "d", `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`);
}
