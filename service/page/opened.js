// A hit in a dialog of its own: large, with all that the index knows about it.
import { byId, say, span } from "./dom.js";
import { mark, marks } from "./marks.js";

// `where`: sentences about its ranks. `query`: what it can be marked for, if anything.
export function open(hit, name, where, query) {
  byId("opened-name").textContent = name;
  byId("opened-where").textContent = where.join(" ");
  byId("opened-metadata").replaceChildren(...Object.entries(hit.metadata).flatMap(described));
  byId("opened-marks").replaceChildren(...marks(query, hit.id, name));
  const image = byId("opened-image");
  image.hidden = byId("opened-download").hidden = !hit.url;
  image.alt = name;
  if (hit.url) image.src = byId("opened-download").href = `${hit.url}?size=1024`;
  else image.removeAttribute("src");
  byId("opened-download").download = `${name}.webp`;
  Object.assign(byId("opened-more"), { value: hit.id, title: name });
  byId("opened").showModal();
  say("");
  if (query) mark(query, hit.id, true, "opened");
}

export function close() {
  byId("opened").close();
}

// The address of a search that starts from the picture.
export function link() {
  const parts = new URLSearchParams({ like: byId("opened-more").value });
  return `${location.origin}${location.pathname}?${parts}`;
}

// Values are set as textContent, so they are never parsed as markup.
function described([key, value]) {
  const term = document.createElement("dt");
  term.textContent = key;
  const text = document.createElement("dd");
  text.dir = "auto";
  text.append(...lines(value).map((line) => span("value", line)));
  return [term, text];
}

// Lists and objects a line each.
function lines(value) {
  if (Array.isArray(value)) return value.flatMap(lines);
  if (value === null || typeof value !== "object") return [String(value)];
  return Object.entries(value).map(([key, own]) => `${key}: ${lines(own).join(", ")}`);
}
