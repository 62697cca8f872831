// Starts the page: what happens on a click, a key or an address. The search is in search.js.
import { behind, fromAddress, openedId } from "./address.js";
import { asCurl } from "./curl.js";
import { answer, byId, say } from "./dom.js";
import { ask } from "./events.js";
import { startExamples } from "./examples.js";
import { onFilter, showFacets } from "./filters.js";
import { press } from "./marks.js";
import { close, link, reopen } from "./opened.js";
import { startRecent } from "./recent.js";
import { ofIndex, onPicture, setReference } from "./reference.js";
import { search, searchRequest } from "./search.js";
import { t } from "./strings.js";
import { describe } from "./wall.js";

let shown; // the address of what is behind the dialog

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  searchNow();
});

byId("form").addEventListener("change", (event) => {
  if (["rewrite", "rerank"].includes(event.target.name)) searchNow();
});

startExamples((query) => {
  setReference(null);
  byId("query").value = query;
  searchNow();
});

onFilter(searchNow);
onPicture(startFrom, (problem) => say(problem, true));
startRecent();

// Of hits, and of the one that is opened.
document.addEventListener("click", (event) => {
  if (event.target.matches(".mark")) press(event.target);
  if (!event.target.matches(".more")) return;
  close();
  startFrom(ofIndex(event.target.value, event.target.title));
});

byId("opened-link").addEventListener("click", () => copy(link(), t("link_copied")));

byId("reference-remove").addEventListener("click", () => {
  setReference(null);
  byId("query").focus();
  searchNow();
});

byId("copy").addEventListener("click", () => copy(asCurl(searchRequest()), t("curl_copied")));

byId("language").addEventListener("change", (event) => {
  const year = 365 * 24 * 3600; // seconds
  document.cookie = `grape_language=${event.target.value}; path=/; max-age=${year}; samesite=strict`;
  location.reload();
});

addEventListener("popstate", showAddress);
showAddress();
showInfo();

function searchNow() {
  search(true);
  shown = behind();
}

// Browsers offer the clipboard only over HTTPS and to pages of this machine.
async function copy(text, done) {
  if (!navigator.clipboard) return answer(text);
  await navigator.clipboard.writeText(text);
  answer(done);
}

// Shows what the picture finds by itself; the user then says what should be different.
function startFrom(picture) {
  setReference(picture);
  byId("query").value = "";
  byId("query").focus();
  searchNow();
}

// A step that only opens or closes the dialog leaves what is behind it alone.
function showAddress() {
  if (shown !== behind()) {
    shown = behind();
    fromAddress();
    search(false);
  }
  if (openedId()) reopen(openedId());
  else if (byId("opened").open) byId("opened").close();
}

// A licence may require a credit next to the pictures; marks are for servers that keep them.
async function showInfo() {
  try {
    const info = await ask("/info");
    byId("credit").textContent = info.index.credit ?? "";
    byId("results").classList.toggle("with-marks", info.feedback === true);
    describe(info);
    showFacets((await ask("/facets")).facets);
  } catch {
    setTimeout(showInfo, 3000);
  }
}
