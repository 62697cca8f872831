// Filters from the index's own metadata: values to tick, and ranges.
import { byId, element, toggles } from "./dom.js";
import { number, t } from "./strings.js";

let current = null; // as in POST /search
let facets = [];

export function filter() {
  return current;
}

// What is filtered by, in a few characters; empty if nothing is.
export function describeFilter() {
  return Object.entries(current ?? {}).map(([key, condition]) => {
    const values = condition?.in ?? (typeof condition === "object" ? Object.values(condition ?? {}) : [condition]);
    return `${key}: ${JSON.stringify(values).replace(/^\[|"|\]$/g, "")}`;
  }).join(", ");
}

// Takes the filter of an address, which may use more of the language than the page offers.
export function setFilter(text) {
  try {
    const given = JSON.parse(text);
    current = given && typeof given === "object" && !Array.isArray(given) ? given : null;
  } catch {
    current = null;
  }
  draw();
}

export function showFacets(found) {
  facets = found;
  draw();
}

export function onFilter(changed) {
  toggles("filters-toggle", byId("filters"));
  byId("facets").addEventListener("change", (event) => {
    const field = event.target.closest("fieldset");
    setCondition(field.dataset.key, read(field));
    count();
    changed();
  });
  byId("filters-clear").addEventListener("click", () => {
    current = null;
    draw();
    changed();
  });
}

function setCondition(key, condition) {
  const { [key]: _, ...others } = current ?? {};
  const next = condition ? { ...others, [key]: condition } : others;
  current = Object.keys(next).length ? next : null;
}

// The condition that a fieldset says; null if none.
function read(field) {
  const ticked = [...field.querySelectorAll("input:checked")].map((box) => JSON.parse(box.value));
  if (ticked.length) return { in: ticked };
  const bounds = [...field.querySelectorAll("input[data-bound]")].filter((input) => input.value)
    .map((input) => [input.dataset.bound, input.type === "date" ? input.value : input.valueAsNumber]);
  return bounds.length ? Object.fromEntries(bounds) : null;
}

function draw() {
  byId("facets").replaceChildren(...facets.map(drawn));
  count();
}

function count() {
  const n = Object.keys(current ?? {}).length;
  const toggle = byId("filters-toggle");
  toggle.textContent = n ? t("filters_n", { n }) : t("filters");
  toggle.classList.toggle("unused", !facets.length && !n); // keeps its place
  byId("filters-clear").hidden = !n;
}

function drawn(facet) {
  // Three words of the language can be fields as well.
  const key = ["all", "any", "not"].includes(facet.field) ? `\\${facet.field}` : facet.field;
  const condition = current?.[key];
  const field = element("fieldset", {}, element("legend", { dir: "auto" }, facet.field));
  field.dataset.key = key;
  if (facet.values.length) field.append(...facet.values.map((value) => box(value, condition)));
  else field.append(...bounds(facet, condition));
  if (facet.more) field.append(element("p", {}, t("more", { n: facet.more })));
  return field;
}

function box({ value, count: pictures }, condition) {
  const chosen = condition?.in ?? [condition?.eq ?? condition];
  const input = element("input", {
    type: "checkbox", value: JSON.stringify(value), checked: chosen.includes(value),
  });
  const text = typeof value === "boolean" ? t(value ? "yes" : "no") : String(value);
  return element("label", {}, input, element("span", { dir: "auto" }, text),
    element("small", {}, number(pictures)));
}

function bounds({ field, kind, low, high }, condition) {
  return [["gte", "from", low], ["lte", "to", high]].map(([bound, key, limit]) => {
    const input = element("input", {
      type: kind === "date" ? "date" : "number", min: low, max: high, step: "any",
      value: condition?.[bound] ?? "", placeholder: kind === "date" ? "" : limit,
    });
    input.dataset.bound = bound;
    input.setAttribute("aria-label", `${field}: ${t(key)}`);
    return element("label", {}, element("span", {}, t(key)), input);
  });
}
