// Marks on hits: what is right for a query, and what is not. Only servers that keep feedback show
// them and are told.
import { answer, button, byId } from "./dom.js";
import { ask } from "./events.js";
import { t } from "./strings.js";

let search = null; // its request_id: of several marks in one search the last counts

export function ofSearch(id) {
  search = id;
}

// The two buttons of a hit. A search that starts from a picture has none.
export function marks(query, id, name) {
  if (!query) return [];
  return [[true, "✓", "mark_right"], [false, "✗", "mark_wrong"]].map(([relevant, sign, key]) => {
    const made = button("mark", sign);
    made.setAttribute("aria-label", t(key, { name }));
    made.setAttribute("aria-pressed", "false");
    Object.assign(made.dataset, { query, id, relevant });
    return made;
  });
}

// What a click on one of them says. A click on the other one takes its place.
export async function press(pressed) {
  if (pressed.getAttribute("aria-pressed") === "true") return;
  const { query, id, relevant } = pressed.dataset;
  const problem = await mark(query, id, relevant === "true");
  if (problem) return answer(problem, true);
  for (const one of pressed.parentElement.querySelectorAll(".mark")) {
    one.setAttribute("aria-pressed", String(one === pressed));
  }
}

// Tells the server; returns why it did not take it. `kind`: "marked", or "opened".
export async function mark(query, id, relevant, kind = "marked") {
  if (!byId("results").classList.contains("with-marks")) return "";
  try {
    await ask("/feedback", { query, id, relevant, kind, ...(search && { request_id: search }) });
    return "";
  } catch (error) {
    return error.message;
  }
}
