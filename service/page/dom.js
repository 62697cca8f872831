// Short names for what every part of the page does with the document.

export const byId = (id) => document.getElementById(id);

export function span(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

// The status line, which screen readers read out. Behind an open dialog nobody would see it.
export function say(sentence, warning = false) {
  const status = byId(byId("opened").open ? "opened-status" : "status");
  status.textContent = sentence;
  status.classList.toggle("warning", warning);
}
