// Marks on hits: what is right for a query, and what is not. Only servers that keep feedback show
// them and are told.
import { byId, say } from "./dom.js";

let search = null; // its request_id: of several marks in one search the last counts

export function ofSearch(id) {
  search = id;
}

// The two buttons of a hit. A search that starts from a picture has none.
export function marks(query, id, name) {
  if (!query) return [];
  return [[true, "✓", `${name} is right`], [false, "✗", `${name} is not what I meant`]].map(
    ([relevant, sign, label]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "mark";
      button.textContent = sign;
      button.setAttribute("aria-label", label);
      button.setAttribute("aria-pressed", "false");
      Object.assign(button.dataset, { query, id, relevant });
      return button;
    });
}

// What a click on one of them says. A click on the other one takes its place.
export async function press(button) {
  if (button.getAttribute("aria-pressed") === "true") return;
  const { query, id, relevant } = button.dataset;
  const problem = await mark(query, id, relevant === "true");
  if (problem) return say(problem, true);
  for (const one of button.parentElement.querySelectorAll(".mark")) {
    one.setAttribute("aria-pressed", String(one === button));
  }
}

// Tells the server; returns why it did not take it. `kind`: "marked", or "opened".
export async function mark(query, id, relevant, kind = "marked") {
  if (!byId("results").classList.contains("with-marks")) return "";
  const body = JSON.stringify({ query, id, relevant, kind, ...(search && { request_id: search }) });
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("/feedback", { method: "POST", headers, body }).catch(() => null);
  if (answer?.ok) return "";
  const told = await answer?.json().catch(() => null);
  return told?.error ?? "The server cannot be reached.";
}
