// The gallery: all pictures of the index, of which only those in sight are in the document.
import { byId, element, nameOf, thumbnail } from "./dom.js";
import { ask } from "./events.js";
import { open } from "./opened.js";
import { t } from "./strings.js";

const PAGE = 120; // pictures in one answer
const CELL = 104; // pixels, at least
const AHEAD = 2; // rows beyond what is in sight
const HIGHEST = 16_000_000; // pixels; browsers draw nothing further down
const QUIET_MS = 80; // without scrolling, before pages are fetched
const RETRY_MS = 2000; // while the server loads

let filter = null;
let total = 0;
let current = 0; // the picture that the keyboard is at
let everything = 0; // pictures of the index
let pages = new Map(); // by number
let loading = new Map(); // what is on its way
let asked = 0; // answers for older filters are dropped
let timer;
const items = new Map(); // list items in the document, by the place of their picture

export async function showWall(wanted) {
  byId("gallery").hidden = false;
  if (total && JSON.stringify(wanted) === JSON.stringify(filter)) return draw();
  [filter, total, current, pages, loading] = [wanted, 0, 0, new Map(), new Map()];
  asked += 1;
  clear();
  await load(0);
}

export function hideWall() {
  byId("gallery").hidden = true;
}

// One line on what answers here, from GET /info.
export function describe(info) {
  const named = (name) => name.split(/[:/]/).pop();
  const { name } = info.index.encoder;
  const encoder = name.startsWith("local-dir:") ? `OpenCLIP (${named(name)})` : named(name);
  const llm = info.llm === "none" ? "" : named(info.llm);
  byId("gallery-models").textContent = t(llm ? "models" : "models_none", { llm, encoder });
  everything = info.index.count;
  tell();
}

function tell() {
  if (!pages.size || (filter && !everything)) return;
  const key = filter ? "gallery_filtered" : "gallery";
  byId("gallery-count").textContent = t(key, { n: total, total: everything });
}

function load(page) {
  if (!loading.has(page)) loading.set(page, fetched(page));
  return loading.get(page);
}

async function fetched(page) {
  const mine = asked;
  const parts = { order: "mixed", offset: page * PAGE, limit: PAGE, ...(filter && { filter: JSON.stringify(filter) }) };
  try {
    const answer = await ask(`/images?${new URLSearchParams(parts)}`);
    if (mine !== asked) return;
    pages.set(page, answer.pictures);
    total = answer.total;
    tell();
    draw();
  } catch (error) {
    if (mine !== asked) return;
    loading.delete(page);
    byId("gallery-count").textContent = error.message;
    if (error.loading) setTimeout(() => mine === asked && load(page), RETRY_MS);
  }
}

// Columns, the side of a cell in pixels, and how many pictures can be shown.
function grid() {
  const width = byId("wall").clientWidth;
  const columns = Math.max(1, Math.floor(width / CELL));
  const side = width / columns;
  return { columns, side, most: Math.min(total, Math.floor(HIGHEST / side) * columns) };
}

function draw() {
  const wall = byId("wall");
  if (!wall.offsetParent) return;
  const { columns, side, most } = grid();
  wall.style.height = `${Math.ceil(most / columns) * side}px`;
  const top = wall.getBoundingClientRect().top;
  const row = (y) => Math.floor((y - top) / side);
  const first = Math.max(0, (row(0) - AHEAD) * columns);
  const last = Math.min(most, (row(innerHeight) + 1 + AHEAD) * columns);
  for (const [place, item] of items) {
    if ((place < first || place >= last) && !item.contains(document.activeElement)) remove(place);
  }
  for (let place = first; place < last; place += 1) put(place, columns, side);
  clearTimeout(timer);
  timer = setTimeout(() => {
    for (let page = Math.floor(first / PAGE); page * PAGE < last; page += 1) load(page);
  }, QUIET_MS);
}

// A picture in its cell; an empty one until its page is there.
function put(place, columns, side) {
  const picture = pages.get(Math.floor(place / PAGE))?.[place % PAGE];
  let item = items.get(place);
  if (item && picture && !item.firstChild) {
    remove(place);
    item = null;
  }
  if (!item) {
    item = element("li", {}, ...(picture ? [linkTo(picture, place)] : []));
    item.setAttribute("aria-setsize", total);
    item.setAttribute("aria-posinset", place + 1);
    items.set(place, item);
    const next = [...items.keys()].filter((other) => other > place).sort((a, b) => a - b)[0];
    byId("wall").insertBefore(item, items.get(next) ?? null); // read in the order of the pictures
  }
  Object.assign(item.style, {
    insetInlineStart: `${(place % columns) * side}px`, top: `${Math.floor(place / columns) * side}px`,
    width: `${side}px`, height: `${side}px`,
  });
}

function linkTo(picture, place) {
  const link = element("a", { href: `?${new URLSearchParams({ open: picture.id })}` });
  link.title = nameOf(picture);
  link.tabIndex = place === current ? 0 : -1;
  link.append(picture.url ? thumbnail(picture) : nameOf(picture));
  link.addEventListener("focus", () => makeCurrent(place));
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(picture);
  });
  return link;
}

function makeCurrent(place) {
  for (const [other, item] of items) if (item.firstChild) item.firstChild.tabIndex = other === place ? 0 : -1;
  current = place;
}

function remove(place) {
  items.get(place).remove();
  items.delete(place);
}

function clear() {
  for (const place of [...items.keys()]) remove(place);
}

// Arrows move by one picture or row, Page keys by what fits the window.
byId("wall").addEventListener("keydown", async (event) => {
  const { columns, side, most } = grid();
  const forward = document.documentElement.dir === "rtl" ? -1 : 1;
  const screen = Math.max(1, Math.floor(innerHeight / side) - 1) * columns;
  const step = {
    ArrowRight: forward, ArrowLeft: -forward, ArrowDown: columns, ArrowUp: -columns,
    PageDown: screen, PageUp: -screen, Home: -current, End: most - 1 - current,
  }[event.key];
  if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const next = current + step;
  const place = Math.abs(step) === columns && (next < 0 || next >= most)
    ? current : Math.min(Math.max(next, 0), most - 1);
  await load(Math.floor(place / PAGE));
  const top = byId("wall").getBoundingClientRect().top + Math.floor(place / columns) * side;
  if (top < 0 || top + side > innerHeight) scrollBy({ top: top - innerHeight / 2, behavior: "instant" });
  draw();
  items.get(place)?.firstChild?.focus({ preventScroll: true });
});

addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
addEventListener("resize", () => {
  clear();
  draw();
});
