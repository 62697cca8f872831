// Short names for what every part of the page does with the document.

export const byId = (id) => document.getElementById(id);

// An element with properties and children. Texts never become markup.
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function span(className, text) {
  return element("span", { className }, text);
}

export function button(className, text, properties = {}) {
  return element("button", { type: "button", className, ...properties }, text);
}

// What a picture is called.
export function nameOf({ id, metadata }) {
  return String(metadata?.name ?? metadata?.file ?? id);
}

// `alt` is empty where the name is beside it.
export function thumbnail(picture, alt = nameOf(picture)) {
  return element("img", { src: `${picture.url}?size=160`, alt, loading: "lazy" });
}

// The status line, which screen readers read out.
export function say(sentence, warning = false, id = "status") {
  const status = byId(id);
  status.textContent = sentence;
  status.classList.toggle("warning", warning);
}

// The same for what was just pressed: behind an open dialog nobody would see it.
export function answer(sentence, warning) {
  say(sentence, warning, byId("opened").open ? "opened-status" : "status");
}

// A button that shows and hides what it controls.
export function toggles(id, panel) {
  byId(id).addEventListener("click", () => {
    panel.hidden = !panel.hidden;
    byId(id).setAttribute("aria-expanded", String(!panel.hidden));
  });
}

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
