// Short names for what every part of the page does with the document.

export const byId = (id) => document.getElementById(id);

// The status line, which screen readers read out.
export function say(sentence, warning = false) {
  byId("status").textContent = sentence;
  byId("status").classList.toggle("warning", warning);
}
