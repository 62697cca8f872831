// Short names for what every part of the page does with the document.

export const byId = (id) => document.getElementById(id);

export function span(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

// The status line, which screen readers read out.
export function say(sentence, warning = false) {
  byId("status").textContent = sentence;
  byId("status").classList.toggle("warning", warning);
}
