// Recent searches. They stay on this device: the browser keeps them, and the server is not told.
import { behind } from "./address.js";
import { byId, element, toggles } from "./dom.js";
import { describeFilter } from "./filters.js";
import { reference } from "./reference.js";

const KEY = "grape.recent";
const OFF = "grape.recent.off";
const MOST = 30;

export function startRecent() {
  toggles("recent-toggle", byId("recent"));
  byId("recent-keep").checked = !read(OFF, false);
  byId("recent-keep").addEventListener("change", (event) => {
    write(OFF, !event.target.checked);
    if (!event.target.checked) write(KEY, []);
    draw();
  });
  byId("recent-clear").addEventListener("click", () => {
    write(KEY, []);
    draw();
  });
  addEventListener("storage", draw); // another tab of this browser
  draw();
}

// Keeps a search, if the reader wants that. A file of the user's own is in no address.
export function remember({ query, image }) {
  if (image || read(OFF, false)) return;
  const asked = [reference()?.name, query].filter(Boolean).join(": ");
  const text = describeFilter() ? `${asked} (${describeFilter()})` : asked;
  const others = read(KEY, []).filter((one) => one?.address !== behind());
  write(KEY, [{ address: behind(), text }, ...others].slice(0, MOST));
  draw();
}

function draw() {
  const kept = read(KEY, []).filter((one) => one?.address);
  byId("recent-none").hidden = kept.length > 0;
  byId("recent-clear").hidden = !kept.length;
  byId("recent-list").hidden = !kept.length;
  byId("recent-list").replaceChildren(...kept.map(({ address, text }) =>
    element("li", {}, element("a", { href: address, dir: "auto" }, text))));
}

// Browsers can be told to keep nothing, and what is kept may be from another version.
function read(key, otherwise) {
  try {
    const found = JSON.parse(localStorage.getItem(key));
    return Array.isArray(found) === Array.isArray(otherwise) ? found : otherwise;
  } catch {
    return otherwise;
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Then nothing is remembered.
  }
}
