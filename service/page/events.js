// Asks the server: JSON at once, or events as they come.
import { t } from "./strings.js";

// The answer to a GET, or to a POST of `body`. Throws an error with a sentence for the user, and
// `loading` while the server cannot answer yet.
export async function ask(path, body, signal) {
  const answer = await sent(path, body && { body: JSON.stringify(body), method: "POST", signal });
  return answer.json();
}

// Reads server-sent events from a POST, which the browser's EventSource cannot send.
export async function* events(path, body, signal) {
  const headers = { Accept: "text/event-stream" };
  const response = await sent(path, { method: "POST", body: JSON.stringify(body), signal, headers });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error(t("lost"));
    });
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const [, event, data] = block.match(/^event: ([^\n]*)\ndata: ([^\n]*)$/);
      yield [event, JSON.parse(data)];
    }
  }
}

async function sent(path, options) {
  let response;
  try {
    const headers = { "Content-Type": "application/json", ...options?.headers };
    response = await fetch(path, options && { ...options, headers });
  } catch {
    throw new Error(t("unreachable"));
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({})); // a proxy answers with HTML
  const sentence = problem.error ?? t("answered", { status: String(response.status) });
  throw Object.assign(new Error(sentence), { loading: response.status === 503 });
}
