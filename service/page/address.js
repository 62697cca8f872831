// What the page shows as its address, so that it can be bookmarked and shared. An address cannot
// contain the user's own file.
import { byId } from "./dom.js";
import { filter, setFilter } from "./filters.js";
import { ofIndex, setReference } from "./reference.js";

const MODES = ["auto", "always", "never"];
const OPEN = "open"; // the picture in the dialog; the rest of the address says what is behind it

export function toAddress({ query, image_id, rewrite, rerank }) {
  const parts = {
    ...(query && { q: query }), ...(image_id && { like: image_id }),
    ...(rewrite !== "auto" && { rewrite }), ...(rerank && { rerank }),
    ...(filter() && { filter: JSON.stringify(filter()) }),
  };
  history.pushState(null, "", address(new URLSearchParams(parts)));
}

// Fills the form from the address.
export function fromAddress() {
  const given = new URLSearchParams(location.search);
  const mode = given.get("rewrite");
  const { rewrite, rerank } = byId("form").elements;
  rewrite.value = MODES.includes(mode) ? mode : "auto";
  rerank.checked = given.get("rerank") === "true";
  setReference(given.get("like") ? ofIndex(given.get("like")) : null);
  setFilter(given.get("filter"));
  byId("query").value = given.get("q") ?? "";
}

// The address without the open picture.
export function behind() {
  const given = new URLSearchParams(location.search);
  given.delete(OPEN);
  return address(given);
}

export function openedId() {
  return new URLSearchParams(location.search).get(OPEN);
}

// With a picture in the dialog. A step back closes the dialog.
export function withOpened(id) {
  const given = new URLSearchParams(location.search);
  const already = given.has(OPEN);
  given.set(OPEN, id);
  const state = already ? history.state : { opened: true };
  history[already ? "replaceState" : "pushState"](state, "", address(given));
}

// Without one. `stepping`: whether the step back may be taken, which other code must not overtake.
export function withoutOpened(stepping) {
  if (!openedId()) return;
  if (stepping && history.state?.opened) history.back();
  else history.replaceState(null, "", behind());
}

function address(parts) {
  return parts.size ? `?${parts}` : location.pathname;
}
