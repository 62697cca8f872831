// Starts the page: what happens on a click, a key or an address. The search is in search.js.
import { fromAddress } from "./address.js";
import { asCurl } from "./curl.js";
import { byId, say } from "./dom.js";
import { press } from "./marks.js";
import { close, link } from "./opened.js";
import { ofIndex, onPicture, setReference } from "./reference.js";
import { search, searchRequest } from "./search.js";

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  search(true);
});

byId("form").addEventListener("change", (event) => {
  if (["rewrite", "rerank"].includes(event.target.name)) search(true);
});

document.querySelector(".examples").addEventListener("click", (event) => {
  if (!event.target.matches("button")) return;
  setReference(null);
  byId("query").value = event.target.textContent;
  search(true);
});

onPicture(startFrom, (problem) => say(problem, true));

// Of hits, and of the one that is opened.
document.addEventListener("click", (event) => {
  if (event.target.matches(".mark")) press(event.target);
  if (!event.target.matches(".more")) return;
  close();
  startFrom(ofIndex(event.target.value, event.target.title));
});

byId("opened-link").addEventListener("click", () => copy(link(), "The link was copied."));

byId("reference-remove").addEventListener("click", () => {
  setReference(null);
  byId("query").focus();
  search(true);
});

byId("copy").addEventListener("click", () => {
  copy(asCurl(searchRequest()), "The search was copied to the clipboard as a curl command.");
});

addEventListener("popstate", searchFromAddress);
searchFromAddress();
showInfo();

// Browsers offer the clipboard only over HTTPS and to pages of this machine.
async function copy(text, done) {
  if (!navigator.clipboard) return say(text);
  await navigator.clipboard.writeText(text);
  say(done);
}

// Shows what the picture finds by itself; the user then says what should be different.
function startFrom(picture) {
  setReference(picture);
  byId("query").value = "";
  byId("query").focus();
  search(true);
}

function searchFromAddress() {
  fromAddress();
  search(false);
}

// A licence may require a credit next to the pictures; marks are for servers that keep them.
async function showInfo() {
  const response = await fetch("/info").catch(() => null);
  if (!response?.ok) return void setTimeout(showInfo, 3000);
  const info = await response.json();
  byId("credit").textContent = info.index.credit ?? "";
  byId("results").classList.toggle("with-marks", info.feedback === true);
}
