// A picture in a dialog of its own: large, with all that the index knows about it.
import { withOpened, withoutOpened } from "./address.js";
import { answer, byId, element, nameOf, span, thumbnail } from "./dom.js";
import { ask } from "./events.js";
import { known, ranks } from "./hits.js";
import { mark, marks } from "./marks.js";

const ALIKE = 8; // pictures
let current = null;

// `query`: what it can be marked for, if anything.
export function open(picture, query = null) {
  withOpened(picture.id);
  show(picture, query);
  if (query) mark(query, picture.id, true, "opened");
}

// The picture that the address names.
export function reopen(id) {
  if (byId("opened").open && current?.id === id) return;
  show(known(id) ?? { id, url: `/images/${encodeURIComponent(id)}`, metadata: {} }, null);
}

// At once: what comes next has an address of its own.
export function close() {
  withoutOpened(false);
  byId("opened").close();
}

byId("opened").addEventListener("close", () => withoutOpened(true));
byId("opened").addEventListener("click", (event) => {
  if (event.target === byId("opened")) byId("opened").close(); // beside it
});

// The address of the picture, whatever is behind it.
export function link() {
  return `${location.origin}${location.pathname}?${new URLSearchParams({ open: current.id })}`;
}

function show(picture, query) {
  current = picture;
  if (!byId("opened").open) byId("opened").showModal();
  answer("");
  describe(picture);
  byId("opened-marks").replaceChildren(...marks(query, picture.id, nameOf(picture)));
  byId("opened-where").textContent = ranks(picture.id).join(" ");
  byId("opened-alike").replaceChildren();
  showAlike(picture);
}

function describe(picture) {
  const name = nameOf(picture);
  byId("opened-name").textContent = name;
  const rows = Object.entries(picture.metadata).map(described);
  byId("opened-metadata").hidden = !rows.length;
  byId("opened-metadata").tBodies[0].replaceChildren(...rows);
  const image = byId("opened-image");
  image.hidden = byId("opened-download").hidden = !picture.url;
  image.alt = name;
  const large = `${picture.url}?size=1024`;
  if (!picture.url) image.removeAttribute("src");
  else if (image.getAttribute("src") !== large) image.src = byId("opened-download").href = large;
  byId("opened-download").download = `${name}.webp`;
  Object.assign(byId("opened-more"), { value: picture.id, title: name });
}

// The pictures most like it; the answer also says what is known of one that an address named.
async function showAlike(picture) {
  try {
    const wish = { image_id: picture.id, with_reference: true, k: ALIKE + 1, rewrite: "never" };
    const { hits } = await ask("/search", wish);
    if (current !== picture) return;
    const itself = hits.find((hit) => hit.id === picture.id);
    if (itself && !Object.keys(picture.metadata).length) describe((current = itself));
    const others = hits.filter((hit) => hit.id !== picture.id).slice(0, ALIKE);
    byId("opened-alike").replaceChildren(...others.map(alike));
  } catch (error) {
    if (current !== picture) return;
    if (!known(picture.id)) byId("opened-image").hidden = byId("opened-download").hidden = true;
    answer(error.message, true);
  }
}

function alike(hit) {
  const name = nameOf(hit);
  const link = element("a", { className: "open", href: `?${new URLSearchParams({ open: hit.id })}` });
  if (hit.url) link.append(thumbnail(hit));
  else link.append(span("name", name));
  link.title = name;
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(hit);
    byId("opened").scrollTop = 0;
    byId("opened").querySelector("button").focus();
  });
  return element("li", {}, link);
}

function described([key, value]) {
  const head = element("th", { scope: "row", dir: "auto" }, key);
  return element("tr", {}, head, element("td", {}, ...lines(value).map((line) =>
    element("span", { className: "value", dir: "auto" }, line))));
}

// Lists and objects a line each.
function lines(value) {
  if (Array.isArray(value)) return value.flatMap(lines);
  if (value === null || typeof value !== "object") return [String(value)];
  return Object.entries(value).map(([key, own]) => `${key}: ${lines(own).join(", ")}`);
}
