// Reads server-sent events from a POST, which the browser's EventSource cannot send.
export async function* events(path, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
      body: JSON.stringify(body),
      signal,
    });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({})); // a proxy answers with HTML
    const sentence = problem.error ?? `The server answered ${response.status}.`;
    throw Object.assign(new Error(sentence), { loading: response.status === 503 });
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error("The connection was lost.");
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
