// Marks on hits: what is right for a query, and what is not. Only servers that keep feedback show them.
import { say } from "./dom.js";

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

// Sends a mark. The other button takes it back by saying the opposite.
export async function mark(button) {
  if (button.getAttribute("aria-pressed") === "true") return;
  const { query, id, relevant } = button.dataset;
  const body = JSON.stringify({ query, id, relevant: relevant === "true" });
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("/feedback", { method: "POST", headers, body }).catch(() => null);
  if (!answer?.ok) {
    const problem = await answer?.json().catch(() => null);
    return say(problem?.error ?? "The server cannot be reached.", true);
  }
  for (const one of button.parentElement.querySelectorAll(".mark")) {
    one.setAttribute("aria-pressed", String(one === button));
  }
}
