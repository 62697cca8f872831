// The picture that a search starts from: a hit, or a file that is chosen, dropped or pasted.
import { byId, element } from "./dom.js";
import { t } from "./strings.js";

let current = null; // { name, url } and either id (in the index) or image (a data: URI)

export function reference() {
  return current;
}

export function setReference(next) {
  current = next;
  byId("reference").hidden = !next;
  byId("query").required = !next;
  byId("query").placeholder = t(next ? "change_hint" : "query_hint");
  const [before, after] = t("like_name", { name: "\n" }).split("\n");
  const name = element("strong", { id: "reference-name", dir: "auto" }, next?.name ?? "");
  byId("reference-title").replaceChildren(before, name, after);
  if (next) byId("reference-image").src = next.url;
  else byId("reference-image").removeAttribute("src");
  byId("file").value = ""; // so that the same file can be chosen again
}

// A picture of the index. An address contains only its id.
export function ofIndex(id, name = t("this_picture")) {
  return { id, name, url: `/images/${encodeURIComponent(id)}?size=160` };
}

// Calls back with every picture that the user brings. Other drops are left to the browser.
export function onPicture(chosen, failed) {
  const take = async (file) => {
    try {
      const image = await asDataUri(file);
      chosen({ image, name: file.name || t("the_picture"), url: image });
    } catch {
      failed(t("unreadable"));
    }
  };
  byId("file").addEventListener("change", (event) => {
    if (event.target.files[0]) take(event.target.files[0]);
  });
  addEventListener("dragover", (event) => {
    if (event.dataTransfer.types.includes("Files")) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    const file = event.dataTransfer.files[0];
    if (!file) return;
    event.preventDefault();
    take(file);
  });
  addEventListener("paste", (event) => {
    const file = event.clipboardData.files[0];
    if (file) take(file);
  });
}

function asDataUri(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}
