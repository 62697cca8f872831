// The server's reasons, which are in English, in the reader's language.
import { language, t } from "./strings.js";

// What the server says, by the key of its translation. tests/service/api/test_languages.py compares.
const SAID = {
  why_never: "not requested",
  why_always: "requested",
  why_no_words: "(?:it|the query) has no letters or digits",
  why_no_text: "a picture without words",
  why_change: "a picture to be changed: (?<caption>[^;]*)",
  why_script: "not in Latin script",
  why_foreign: "words of another language",
  why_long: "a text of (?<n>\\d+) sentences",
  why_too_long: "longer than the (?<n>\\d+) tokens that the encoder reads",
  why_description: "a description: the best picture scores (?<score>[\\d.-]+)",
  why_plain_known: "plain English, and the encoder knows it: the best picture scores (?<score>[\\d.-]+)",
  why_plain_new: "plain English, but the encoder does not know it: the best picture scores (?<score>[\\d.-]+)",
  why_other_known: "not plain English, but the encoder knows it: the best picture scores (?<score>[\\d.-]+)",
  why_other_new: "not plain English, and the encoder does not know it: the best picture scores (?<score>[\\d.-]+)",
  why_no_rewriter: "this server has no rewriter",
  why_loading: "the rewriter is not ready: still loading",
  why_unwanted: "the query says what is not wanted",
  why_no_captions: "fewer than two candidates have a text to compare",
};

// A reason in the middle of a sentence. What has no translation stays in English.
export function inWords(reason) {
  const end = reason.search(/, but (?!the encoder)|; /);
  if (end < 0) return translated(reason);
  const rest = reason.slice(end).replace(/^(, but|;) /, "");
  return `${translated(reason.slice(0, end))} – ${translated(rest)}`;
}

// A reason as a sentence of its own.
export function sentence(reason) {
  if (!reason) return "";
  const [first, ...others] = inWords(reason);
  return first.toLocaleUpperCase(language) + others.join("") + t("stop");
}

function translated(said) {
  for (const [key, pattern] of Object.entries(SAID)) {
    const found = said.match(new RegExp(`^${pattern}$`));
    if (found) return t(key, found.groups);
  }
  return said;
}
