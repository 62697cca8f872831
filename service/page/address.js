// The search as the page's address, so that it can be bookmarked and shared. An address cannot
// contain the user's own file.
import { byId } from "./dom.js";
import { ofIndex, setReference } from "./reference.js";

const MODES = ["auto", "always", "never"];

export function toAddress({ query, image_id, rewrite, rerank }) {
  const parts = {
    ...(query && { q: query }), ...(image_id && { like: image_id }),
    ...(rewrite !== "auto" && { rewrite }), ...(rerank && { rerank }),
  };
  history.pushState(null, "", "?" + new URLSearchParams(parts));
}

// Fills the form from the address.
export function fromAddress() {
  const given = new URLSearchParams(location.search);
  const mode = given.get("rewrite");
  const { rewrite, rerank } = byId("form").elements;
  rewrite.value = MODES.includes(mode) ? mode : "auto";
  rerank.checked = given.get("rerank") === "true";
  setReference(given.get("like") ? ofIndex(given.get("like")) : null);
  byId("query").value = given.get("q") ?? "";
}
